"""Events that come late, since who has found them stood still: what was answered meanwhile stays, on every store."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call, Caller
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.watches import rounds as rounds_module
from audience_service.domain.watches.past import Past
from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.sizes import Sizes, Span
from audience_service.domain.watches.watch import Changes, Look
from audience_service.mongo import ledger as ledger_module
from tests.conftest import Service
from tests.midst import Midst
from tests.tracked import LATELY, NEVER, NOON, Tracked

pytestmark = pytest.mark.usefixtures("unwatched")

PAID: dict[str, Any] = {"plan": "paid"}
SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)


def members(audience: Tracked, at: datetime) -> list[str]:
    """Who is told to have been in at a moment."""
    store, call = audience.store, Call(Caller("test", audience.org, frozenset()), NEVER)
    past = Past(store.watches, store.past, Audiences(store.segments, FilterCompiler(["contact"])))
    batches = past.members(call, past.find(call, audience.audience, at), [], 10, "")
    [point] = Sizes(store.watches, store.past).history(call, audience.audience, Span(at, at, 1)).points
    found = [record["pk"] for batch in batches for record in batch]
    assert point.size == len(found)
    return found


def times(audience: Tracked) -> list[timedelta]:
    """When events happened, since noon."""
    return [event.at - NOON for event in audience.ledger()]


def plans(audience: Tracked, keys: str, plan: str) -> None:
    """Change the plans of contacts."""
    for key in keys:
        audience.update(key, **{"data.plan": plan})


def die() -> None:
    """The process is gone."""
    raise RuntimeError("dies")


class Slow:
    """A ledger behind each of whose first appends something happens."""

    def __init__(self, ledger: Any, happens: list[Callable[[], None]]) -> None:
        self._ledger, self._happens = ledger, happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def append(self, *args: Any) -> None:
        """Append, and let it happen."""
        self._ledger.append(*args)
        if self._happens:
            self._happens.pop(0)()


@pytest.mark.parametrize("method", ["append", "advance"])
def test_what_was_answered_for_a_moment_stays_though_an_event_from_before_comes_later(
    service: Service, org: str, tracked: Any, method: str
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked(PAID)
    audience.round()
    plans(audience, "a", "paid")
    answers: list[list[str]] = []

    def look() -> None:
        """Another process finds nothing any more, and says so; for an event that stands there already, all the same."""
        audience.claim("theirs")
        plans(audience, "a", "free")
        service.store.watches.finish(audience.watch(), "theirs", 0, NOON + 10 * SECOND, "", NEVER)
        answers.append(members(audience, NOON + 5 * SECOND))

    parts = {"ledger": service.store.ledger, "watches": service.store.watches}
    name = "ledger" if method == "append" else "watches"
    with pytest.raises(Overtaken):
        audience.round(NOON + SECOND, **{name: Midst(parts[name], method, before=look)})
    assert (answers, audience.watch().seq) == ([[]], 0)
    audience.claim(audience.lease)
    audience.round(NOON + 20 * SECOND)
    assert audience.events() == [("entered", "contact-a"), ("exited", "contact-a")]
    assert times(audience) == [10 * SECOND + MILLISECOND, 20 * SECOND]
    assert members(audience, NOON + 5 * SECOND) == []
    assert members(audience, NOON + 15 * SECOND) == ["contact-a"]


@pytest.mark.parametrize("settled_by", ["the next look", "who appended it"])
def test_an_event_that_came_late_and_is_true_no_more_is_undone_though_no_change_tells_of_it(
    service: Service, org: str, tracked: Any, settled_by: str
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked(PAID)
    audience.round()
    plans(audience, "a", "paid")
    outlooks: list[Any] = []

    def look() -> None:
        """Another process looks at everything while this one stands still: the contact is out again."""
        plans(audience, "a", "free")
        outlooks.append(audience.round(NOON + 10 * SECOND))

    after = die if settled_by == "the next look" else lambda: None
    stalled = Midst(service.store.ledger, "append", before=look, after=after)
    with pytest.raises((RuntimeError, Overtaken)):
        audience.round(NOON + SECOND, ledger=stalled, lease="a lease that was lost")
    assert audience.events() == [("entered", "contact-a")]
    heard = Changes(complete=True, complete_at=NOON + 20 * SECOND)
    audience.round(NOON + 20 * SECOND, Look(heard, outlooks[0]))
    assert audience.events() == [("entered", "contact-a"), ("exited", "contact-a")]


def test_what_a_process_appends_behind_events_that_were_postponed_happens_no_sooner(
    service: Service, org: str, tracked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_JUDGED", 1)
    service.insert(org, [{"id": key} for key in "abc"])
    audience = tracked(PAID)
    audience.round()
    plans(audience, "abc", "paid")

    def look(until: int) -> None:
        """Another process has looked, and settles what has come late meanwhile."""
        audience.claim("theirs")
        watch = audience.watch()
        service.store.watches.finish(watch, "theirs", watch.seq, NOON + until * SECOND, "", NEVER)
        dying = Midst(service.store.ledger, "differences", before=die)
        with pytest.raises(RuntimeError):
            audience.round(NOON + (until + 5) * SECOND, lease="theirs", ledger=dying)
        assert audience.watch().seq == watch.seq + 1

    with pytest.raises(Overtaken):
        audience.round(NOON + SECOND, ledger=Slow(service.store.ledger, [lambda: look(10), lambda: look(20)]))
    audience.claim(audience.lease)
    audience.round(NOON + 40 * SECOND)
    assert audience.events() == [("entered", f"contact-{key}") for key in "abc"]
    assert times(audience) == [10 * SECOND + MILLISECOND, *[20 * SECOND + MILLISECOND] * 2]


def test_of_late_events_of_which_some_were_postponed_none_happens_sooner_than_another(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": key} for key in "abc"])
    audience = tracked(PAID)
    audience.round()
    plans(audience, "abc", "paid")

    with pytest.raises(RuntimeError):
        audience.round(NOON + SECOND, ledger=Midst(service.store.ledger, "append", after=die))
    service.store.watches.finish(audience.watch(), audience.lease, 0, NOON + 10 * SECOND, "", NEVER)
    postponed = {"$set": {"at": NOON + 10 * SECOND + MILLISECOND}}
    for seq in (1, 3):  # and the process that did it died
        service.store.database["audience_ledger"].update_one(
            {"seq": seq, "sk": f"{org}/contact/{'abc'[seq - 1]}"}, postponed
        )
    audience.round(NOON + 20 * SECOND)
    assert times(audience) == [10 * SECOND + MILLISECOND] * 3


def test_what_others_have_postponed_further_meanwhile_stays_as_it_is(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked(PAID)
    audience.round()
    plans(audience, "a", "paid")
    with pytest.raises(RuntimeError):
        audience.round(NOON + SECOND, ledger=Midst(service.store.ledger, "append", after=die))
    service.store.watches.finish(audience.watch(), audience.lease, 0, NOON + 10 * SECOND, "", NEVER)

    def look() -> None:
        audience.claim("theirs")
        service.store.watches.finish(audience.watch(), "theirs", 0, NOON + 15 * SECOND, "", NEVER)
        audience.round(NOON + 30 * SECOND, lease="theirs")

    with pytest.raises(Overtaken):
        audience.round(NOON + 20 * SECOND, ledger=Midst(service.store.ledger, "postpone", before=look))
    assert times(audience) == [15 * SECOND + MILLISECOND]


def test_who_knows_less_than_was_answered_for_makes_nothing_known(service: Service, org: str, tracked: Any) -> None:
    """Between its reading the watch and the ledger others look, and die when they have postponed one event of three."""
    service.insert(org, [{"id": key} for key in "abc"])
    audience = tracked(PAID)
    audience.round()
    plans(audience, "abc", "paid")
    with pytest.raises(RuntimeError):
        audience.round(NOON + SECOND, ledger=Midst(service.store.ledger, "append", after=die))

    def look() -> None:
        service.store.watches.finish(audience.watch(), audience.lease, 0, NOON + 10 * SECOND, "", NEVER)
        postponed = {"$set": {"at": NOON + 10 * SECOND + MILLISECOND}}
        service.store.database["audience_ledger"].update_one({"sk": f"{org}/contact/b"}, postponed)

    with pytest.raises(Overtaken):
        audience.round(NOON + 20 * SECOND, ledger=Midst(service.store.ledger, "read", before=look))
    assert audience.watch().seq == 0
    audience.round(NOON + 30 * SECOND)
    assert times(audience) == [10 * SECOND + MILLISECOND] * 3


def test_of_events_of_several_rounds_the_last_says_when_the_next_may_happen(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked(PAID)
    audience.round()

    def look() -> None:
        """Two rounds that die, one when its event is known, the other before."""
        plans(audience, "a", "paid")
        with pytest.raises(RuntimeError):
            audience.round(NOON + 9 * SECOND, watches=Midst(service.store.watches, "advance", after=die))
        plans(audience, "a", "free")
        with pytest.raises(RuntimeError):
            audience.round(NOON + 12 * SECOND, ledger=Midst(service.store.ledger, "append", after=die))

    late = Midst(service.store.ledger, "read", before=look)
    with pytest.raises(RuntimeError):
        audience.round(NOON + SECOND, ledger=late, watches=Midst(service.store.watches, "finish", before=die))
    watch = audience.watch()
    assert (watch.seq, watch.event_at) == (2, NOON + 12 * SECOND)


def test_by_a_clock_that_is_behind_nobody_enters_again_whom_time_has_made_exit(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a", "data": {"lastOpened": NOON + 5 * SECOND - timedelta(days=30)}}])
    audience = tracked(LATELY)
    audience.round()
    with pytest.raises(RuntimeError):
        audience.round(NOON + 9 * SECOND, ledger=Midst(service.store.ledger, "append", after=die))
    audience.round(NOON + SECOND)
    assert audience.events() == [("exited", "contact-a")]


def test_late_events_are_more_than_one_command_reads(
    service: Service, org: str, tracked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds_module, "_PAGE", 2)
    service.insert(org, [{"id": key} for key in "abcde"])
    audience = tracked(PAID)
    audience.round()
    plans(audience, "abcde", "paid")

    with pytest.raises(RuntimeError):
        audience.round(NOON + SECOND, ledger=Midst(service.store.ledger, "append", after=die))
    service.store.watches.finish(audience.watch(), audience.lease, 0, NOON + 10 * SECOND, "", NEVER)
    audience.round(NOON + 20 * SECOND)
    assert times(audience) == [10 * SECOND + MILLISECOND] * 5
    assert audience.watch().event_at == NOON + 10 * SECOND + MILLISECOND


def test_what_is_found_in_the_very_millisecond_that_was_answered_for_happens_behind_it(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked(PAID)
    audience.round()
    assert members(audience, NOON) == []
    plans(audience, "a", "paid")
    audience.round(NOON)
    assert (times(audience), members(audience, NOON)) == ([MILLISECOND], [])


def test_no_event_happens_before_the_last_one_whose_round_did_not_end(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked(PAID)
    audience.round()
    plans(audience, "a", "paid")

    with pytest.raises(RuntimeError):
        audience.round(NOON + 9 * SECOND, watches=Midst(service.store.watches, "advance", after=die))
    plans(audience, "a", "free")
    audience.round(NOON + SECOND)  # by a clock that is behind
    assert times(audience) == [9 * SECOND, 9 * SECOND]
