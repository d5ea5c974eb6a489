"""When a process looks at a watch that it tracks again, and at what."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from types import SimpleNamespace
from typing import Any

from audience_service.domain.watches.held import Held, Pace
from audience_service.domain.watches.watch import EVERYTHING, Changes, Look, Outlook

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PACE = Pace(poll_seconds=2)
KEYS = frozenset(("acme/contact/a",))


@dataclass
class Told:
    """A subscription as a test has it."""

    datatype: str = "contact"
    follows: bool = True
    has_news: bool = False
    is_complete: bool = True
    keys: frozenset[str] = frozenset()

    def take(self) -> Changes:
        taken = Changes(self.keys, self.is_complete)
        self.keys, self.has_news, self.is_complete = frozenset(), False, self.follows
        return taken

    def close(self) -> None:
        self.follows = False


def looked(held: Held, at: float, outlook: Outlook | None, took: float = 0.5) -> Look:
    """Look at what is due at a time, and come to an outlook."""
    look = held.look(at)
    held.outlook = outlook
    held.ended(look, at, at + took, PACE)
    return look


def test_without_changes_told_everything_is_looked_at_at_intervals() -> None:
    held = Held("acme", "segment-1", "lease")
    assert held.seconds(0, NOON) <= 0
    assert looked(held, 0, Outlook(NOON, searched_seconds=0.1)) == EVERYTHING
    assert held.seconds(0.5, NOON) == 2
    assert looked(held, 2.5, Outlook(NOON, searched_seconds=0.1)) == EVERYTHING
    assert held.seconds(3, NOON) == 2


def test_the_search_for_differences_takes_a_tenth_of_the_time_but_the_first_one_is_not_waited_for() -> None:
    held = Held("acme", "segment-1", "lease")
    looked(held, 0, Outlook(NOON, searched_seconds=5), took=8)
    assert held.seconds(8, NOON) == 2
    looked(held, 10, Outlook(NOON, searched_seconds=5), took=8)
    assert held.seconds(18, NOON) == 45


def test_time_that_moves_somebody_is_looked_at_when_it_comes_and_alone() -> None:
    held = Held("acme", "segment-1", "lease")
    outlook = Outlook(NOON, next_passage=NOON + timedelta(seconds=1))
    looked(held, 0, outlook)
    assert held.seconds(0.5, NOON) == 1
    assert held.look(1.5) == Look(last=outlook)


def test_told_changes_are_gathered_and_looked_at_alone() -> None:
    told, outlook = Told(), Outlook(NOON, follows="contact")
    held = Held("acme", "segment-1", "lease", subscription=told)
    looked(held, 0, outlook)
    assert held.due == inf
    told.keys, told.has_news = KEYS, True
    assert 0 < held.seconds(0.5, NOON) <= 0.5
    assert looked(held, 1, outlook) == Look(Changes(KEYS, complete=True), outlook)
    assert held.seconds(1.5, NOON) == 2, "the definition is looked at all the same"
    assert held.due == inf


def test_what_changes_cannot_tell_is_looked_for_in_everything_at_its_time() -> None:
    told, outlook = Told(), Outlook(NOON, follows="contact", searched_seconds=1)
    held = Held("acme", "segment-1", "lease", subscription=told)
    for at in (0, 10):
        held.due = at
        looked(held, at, outlook)
    told.is_complete, told.has_news = False, True
    assert held.seconds(18.5, NOON) == -6, "what defines it is due"
    assert held.look(18.5) == Look(last=outlook), "but everything is not"
    assert not told.is_complete
    assert held.look(19.5) == EVERYTHING
    assert told.is_complete


def test_a_stream_that_is_lost_leaves_comparing() -> None:
    told, outlook = Told(), Outlook(NOON, follows="contact")
    held = Held("acme", "segment-1", "lease", subscription=told)
    looked(held, 0, outlook)
    told.follows = False
    looked(held, 5, outlook)
    assert held.due < inf


def test_after_a_look_that_failed_everything_is_looked_at_and_not_at_once() -> None:
    told = Told()
    held = Held("acme", "segment-1", "lease", subscription=told)
    looked(held, 0, Outlook(NOON, follows="contact"))
    told.keys, told.has_news = KEYS, True
    looked(held, 5, None)
    told.has_news = True
    assert held.seconds(5.5, NOON) > 1
    assert held.look(20) == EVERYTHING


def test_where_time_is_unforeseen_everything_is_looked_at_once_a_minute() -> None:
    held = Held("acme", "segment-1", "lease", subscription=Told())
    looked(held, 0, Outlook(NOON, follows="contact", unforeseen=True))
    assert held.due == 60.5


def test_where_an_edit_makes_time_unforeseen_everything_is_looked_at_once_a_minute_from_then_on() -> None:
    held = Held("acme", "segment-1", "lease", subscription=Told())
    looked(held, 0, Outlook(NOON, follows="contact"))
    edited = Outlook(NOON, follows="contact", unforeseen=True)
    assert looked(held, 5, edited) != EVERYTHING
    assert looked(held, 30, edited) != EVERYTHING
    assert held.due == 65.5
    assert looked(held, 66, edited) == EVERYTHING
    assert held.due == 126.5


def test_where_an_edit_makes_it_an_audience_of_other_records_those_are_followed() -> None:
    contacts, leads = Told("contact"), Told("lead")
    held = Held("acme", "segment-1", "lease", subscription=contacts, outlook=Outlook(NOON, follows="lead"))
    feed: Any = SimpleNamespace(subscribe=lambda org, datatype: {("acme", "lead"): leads}[org, datatype])
    held.follow(feed)
    assert held.subscription is leads
    assert not contacts.follows
