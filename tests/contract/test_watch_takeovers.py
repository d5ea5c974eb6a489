"""Rounds of tracking that somebody else takes over, step by step, on every store: nothing is doubled or set back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.watch import Cause, Change, Event, Failure, Flip
from tests.conftest import Service
from tests.midst import Midst
from tests.tracked import NEVER, NOON

pytestmark = pytest.mark.usefixtures("unwatched")


def test_a_generation_that_somebody_else_began_meanwhile_stands(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = tracked({"plan": "paid"})

    def take_over() -> None:
        audience.claim("theirs")
        audience.round(lease="theirs")

    with pytest.raises(Overtaken):
        audience.round(ledger=Midst(service.store.ledger, "record", after=take_over))
    begun = audience.watch().generation
    audience.claim(audience.lease)
    audience.round()
    assert audience.watch().generation == begun
    assert audience.events() == []


def test_a_generation_that_somebody_else_removed_meanwhile_does_not_begin(
    service: Service, org: str, tracked: Any
) -> None:
    audience = tracked({"plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    def take_over_and_die() -> None:
        audience.claim("theirs")
        with pytest.raises(RuntimeError):
            audience.round(lease="theirs", ledger=Midst(service.store.ledger, "record", before=die))

    with pytest.raises(Overtaken):
        audience.round(ledger=Midst(service.store.ledger, "record", after=take_over_and_die))
    assert audience.watch().generation == ""


def test_who_has_lost_the_lease_appends_nothing_behind_what_others_did(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a"}, {"id": "b"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    audience.update("a", **{"data.plan": "paid"})
    audience.update("b", **{"data.plan": "paid"})

    def take_over() -> None:
        audience.claim("theirs")
        audience.update("b", **{"data.plan": "free"})
        audience.round(lease="theirs")

    with pytest.raises(Overtaken):
        audience.round(ledger=Midst(service.store.ledger, "append", before=take_over))
    assert audience.events() == [("entered", "contact-a")]


def test_who_has_lost_the_lease_does_not_say_what_defines_the_audience(
    service: Service, org: str, tracked: Any
) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()

    def take_over() -> None:
        audience.claim("theirs")
        audience.define({"plan": "free"})
        audience.round(lease="theirs")
        audience.claim("theirs")

    with pytest.raises(Overtaken):
        audience.round(watches=Midst(service.store.watches, "finish", before=take_over))
    audience.claim(audience.lease)
    service.insert(org, [{"id": "a", "data": {"plan": "free"}}])
    audience.round()
    assert audience.causes() == ["data"]


def test_who_notes_late_how_far_it_came_sets_nothing_back(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    audience.update("a", **{"data.plan": "paid"})

    def take_over() -> None:
        audience.claim("theirs")
        audience.update("a", **{"data.plan": "free"})
        audience.round(lease="theirs")

    with pytest.raises(Overtaken):
        audience.round(watches=Midst(service.store.watches, "advance", before=take_over))
    assert (audience.watch().seq, len(audience.events())) == (2, 2)


def test_tracking_does_not_end_where_the_audience_is_wanted_again_just_then(
    service: Service, org: str, tracked: Any
) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()
    generation = audience.watch().generation
    late = NOON + timedelta(days=2_000)

    def want() -> None:
        service.store.watches.want(org, audience.audience, late + timedelta(days=1), NEVER)

    with pytest.raises(Overtaken):
        audience.round(late, watches=Midst(service.store.watches, "end", before=want))
    assert audience.watch().generation == generation


def test_who_knows_less_than_was_answered_for_lets_no_late_event_happen_before_the_one_in_front_of_it(
    service: Service, org: str, tracked: Any
) -> None:
    """Between its reading the watch and the ledger others answer, and die when they have postponed the first event."""
    service.insert(org, [{"id": "a"}, {"id": "b"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    for key in "ab":
        audience.update(key, **{"data.plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        audience.round(NOON + timedelta(seconds=1), ledger=Midst(service.store.ledger, "append", after=die))
    postponed = NOON + timedelta(seconds=10, milliseconds=1)

    def look() -> None:
        answered = NOON + timedelta(seconds=10)
        service.store.watches.finish(audience.watch(), audience.lease, 0, answered, "", NEVER)
        first = {"sk": f"{org}/contact/a"}
        service.store.database["audience_ledger"].update_one(first, {"$set": {"at": postponed}})

    audience.round(NOON + timedelta(seconds=20), ledger=Midst(service.store.ledger, "read", before=look))
    assert [event.at for event in audience.ledger()] == [postponed, postponed]


def test_as_of_when_nothing_is_missing_never_goes_back_and_no_later_event_happens_by_then(
    service: Service, org: str, tracked: Any
) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()
    watch, minute = audience.watch(), NOON + timedelta(minutes=1)
    for as_of in (minute, NOON):
        service.store.watches.finish(watch, audience.lease, 0, as_of, watch.definition, NEVER)
    assert audience.watch().as_of == minute
    flip = Flip("contact-a", f"{org}/contact/a", Change.ENTERED)
    with pytest.raises(Overtaken):
        service.store.watches.advance(watch, [Event(1, flip, Cause.DATA, minute)], NEVER)
    behind = minute + timedelta(milliseconds=1)
    service.store.watches.advance(watch, [Event(1, flip, Cause.DATA, behind)], NEVER)
    assert (audience.watch().seq, audience.watch().event_at) == (1, behind)


def test_who_has_lost_the_lease_says_nothing_of_the_watch(service: Service, org: str, tracked: Any) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()
    watch, watches = audience.watch(), service.store.watches
    late = watch.wanted_until + timedelta(days=1)
    says: list[Callable[[], Any]] = [
        lambda: watches.prepare(watch, "lost", "watch-1", NEVER),
        lambda: watches.begin(watch, "lost", "watch-1", NOON, "", NEVER),
        lambda: watches.finish(watch, "lost", watch.seq, late, "", NEVER),
        lambda: watches.fail(watch, "lost", Failure("A_REASON", "why"), NEVER),
        lambda: watches.end(watch, "lost", late, NEVER),
        lambda: watches.cleaned(watch, "lost", "watch-1", NEVER),
    ]
    for say in says:
        with pytest.raises(Overtaken):
            say()
    assert audience.watch() == watch
