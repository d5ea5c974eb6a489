"""The clock of a watched audience, on every store: when time alone moves anybody, and whom."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.watches.watch import Changes, Look
from tests.conftest import Service
from tests.midst import Midst
from tests.tracked import LATELY, NOON, Tracked

pytestmark = pytest.mark.usefixtures("unwatched")


def opened(moment: datetime) -> dict[str, Any]:
    """A contact's payload that opened a mail at a moment, as the platform writes it."""
    return {"data": {"lastOpened": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")}}


def test_the_next_moment_at_which_time_moves_anybody_is_told(service: Service, org: str, tracked: Any) -> None:
    month = timedelta(days=30)
    service.insert(org, [{"id": "late", **opened(NOON - month + timedelta(hours=3))}])
    service.insert(org, [{"id": "soon", "data": {"lastOpened": NOON - month + timedelta(seconds=90.5)}}])
    service.insert(org, [{"id": "out", **opened(NOON - month - timedelta(seconds=1))}])
    audience = tracked(LATELY)
    outlook = audience.round()
    passages = [outlook.next_passage]
    for _ in range(2):
        outlook = audience.round(outlook.next_passage, Look(last=outlook))
        passages.append(outlook.next_passage)
    millisecond = timedelta(milliseconds=1)
    soon, late = NOON + timedelta(seconds=90.5), NOON + timedelta(hours=3)
    assert passages == [soon, soon + millisecond, late]
    assert audience.events() == [("exited", "contact-soon")]


@pytest.mark.parametrize(
    "where",
    [
        {"$nor": [LATELY]},
        {"visits": {"$elemMatch": {"at": LATELY["lastOpened"]}}},
        {"opens": {"$elemMatch": LATELY["lastOpened"]}},
        {"opens.0": LATELY["lastOpened"]},
        {"score": 1, "$or": [{"plan": "paid"}, LATELY]},
    ],
)
def test_whom_time_has_moved_is_found_without_a_look_at_the_rest(real_service: Service, where: dict[str, Any]) -> None:
    org = f"clockwork{next(real_service.names)}"
    then = NOON - timedelta(days=30) + timedelta(minutes=1)
    aging = {"lastOpened": then, "score": 1, "visits": [{"at": then}], "opens": [then]}
    real_service.insert(org, [{"id": "aging", "data": aging}, {"id": "other"}])
    audience = Tracked(real_service, org, where)
    outlook = audience.round()
    assert outlook.next_passage == NOON + timedelta(minutes=1)
    later = NOON + timedelta(minutes=2)
    # One that only a look at everything would find.
    real_service.insert(org, [{"id": "new", "data": {**aging, "lastOpened": NOON, "opens": [NOON]}}])
    ledger = Midst(real_service.store.ledger, "differences", before=lambda: pytest.fail("everything is compared"))
    audience.round(later, Look(last=outlook), ledger=ledger)
    assert [pk for _, pk in audience.events()] == ["contact-aging"]
    assert audience.causes() == ["time"]
    assert audience.watch().as_of == NOON


def test_a_flip_is_of_time_only_where_data_would_not_have_made_it(service: Service, org: str, tracked: Any) -> None:
    month = timedelta(days=30)
    service.insert(org, [{"id": "a", **opened(NOON - month)}, {"id": "b", **opened(NOON)}])
    audience = tracked(LATELY)
    audience.round()
    audience.update("b", **opened(NOON - month - timedelta(hours=1)))
    service.insert(org, [{"id": "c", **opened(NOON)}])
    audience.round(NOON + timedelta(minutes=1))
    assert audience.events() == [("exited", "contact-a"), ("exited", "contact-b"), ("entered", "contact-c")]
    assert audience.causes() == ["time", "data", "data"]


def test_where_flips_are_dense_the_next_look_is_a_second_away(real_service: Service) -> None:
    org = f"dense{next(real_service.names)}"
    first = NOON - timedelta(days=30)
    contacts = [{"data": {"lastOpened": first + timedelta(milliseconds=number)}} for number in range(900)]
    real_service.insert(org, contacts)
    outlook = Tracked(real_service, org, LATELY).round()
    assert outlook.next_passage == NOON + timedelta(seconds=1)


def test_expressions_over_now_are_told_to_be_unforeseen(real_service: Service) -> None:
    org = f"unforeseen{next(real_service.names)}"
    where = {"$expr": {"$gt": ["$data.renewsAt", "$$NOW"]}}
    assert Tracked(real_service, org, where).round().unforeseen
    assert not Tracked(real_service, f"{org}2", LATELY).round().unforeseen


def test_what_changed_may_bring_the_next_moment_nearer_and_nothing_else_is_asked(
    service: Service, org: str, tracked: Any
) -> None:
    month = timedelta(days=30)
    service.insert(org, [{"id": "a", **opened(NOON - month + timedelta(hours=2))}])
    audience = tracked(LATELY)
    outlook = audience.round()
    service.insert(org, [{"id": key, **opened(NOON - month + timedelta(hours=1))} for key in "bc"])
    later = NOON + timedelta(minutes=1)
    nothing = Midst(service.store.ledger, "dated", before=lambda: pytest.fail("the dates of all are asked for"))
    assert audience.round(later, Look(last=outlook), ledger=nothing).next_passage == NOON + timedelta(hours=2)
    changed = Changes(frozenset((f"{org}/contact/b",)), complete=True)
    assert audience.round(later, Look(changed, outlook)).next_passage == NOON + timedelta(hours=1)
    audience.update("b", **opened(NOON - month + timedelta(hours=3)))
    knowing = replace(outlook, seq=1)  # that b has entered
    assert audience.round(later, Look(changed, knowing)).next_passage == NOON + timedelta(hours=2)


def test_whom_time_has_moved_is_told_once_though_the_record_has_changed_as_well(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": key, **opened(NOON - timedelta(days=30, seconds=-30))} for key in "ab"])
    audience = tracked(LATELY)
    outlook = audience.round()
    audience.update("a", **{"data.score": 1})
    changed = Changes(frozenset((f"{org}/contact/a",)), complete=True)
    audience.round(NOON + timedelta(minutes=1), Look(changed, outlook))
    assert audience.events() == [("exited", "contact-a"), ("exited", "contact-b")]
