"""Audiences that are edited while a round looks at them, on every store."""

from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.watch import Changes, Look
from audience_service.mongo import ledger as ledger_module
from tests.conftest import Service
from tests.midst import Midst
from tests.tracked import NOON

pytestmark = pytest.mark.usefixtures("unwatched")

SECOND = timedelta(seconds=1)


def test_nobody_is_judged_by_a_filter_that_was_no_more(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "free", "score": 1}}])
    audience = tracked({"plan": "paid"})
    audience.round()

    def edit_and_pay() -> None:
        audience.define({"score": {"$gte": 5}})
        audience.update("a", **{"data.plan": "paid"})

    service.insert(org, [{"id": "b", "data": {"plan": "paid"}}])
    audience.round(ledger=Midst(service.store.ledger, "judge", before=edit_and_pay))
    audience.round()
    assert audience.events() == []


def test_an_edit_is_looked_at_in_everything_whatever_the_round_was_for(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "free"}}])
    audience = tracked({"plan": "paid"})
    outlook = audience.round()
    audience.define({"plan": "free"})
    audience.round(look=Look(Changes(complete=True, complete_at=NOON), outlook))
    assert (audience.events(), audience.causes()) == ([("entered", "contact-a")], ["definition"])


def test_an_audience_that_is_edited_in_every_look_is_tracked_all_the_same(
    service: Service, org: str, tracked: Any
) -> None:
    """Each look searches by one filter and ends under the next one, of which the look after it tells."""
    service.insert(org, [{"id": f"{number}", "data": {"score": number}} for number in range(6)])
    audience = tracked({"score": {"$gte": 6}})
    audience.round()
    for number in range(1, 6):
        lower: Any = {"score": {"$gte": 6 - number}}
        moment = NOON + number * SECOND
        edit = Midst(service.store.ledger, "differences", after=lambda lower=lower: audience.define(lower))
        audience.round(moment, ledger=edit)
        assert audience.events() == [("entered", f"contact-{6 - n}") for n in range(1, number)]
        assert audience.watch().as_of == moment
    assert set(audience.causes()) == {"definition"}


def test_whom_a_look_finds_is_judged_by_the_edit_that_came_meanwhile(
    service: Service, org: str, tracked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_JUDGED", 2)
    keys = "abcdef"
    service.insert(org, [{"id": key, "data": {"score": number}} for number, key in enumerate(keys)])
    audience = tracked({"plan": "paid"})
    audience.round()
    for key in keys:
        audience.update(key, **{"data.plan": "paid"})
    edit = Midst(service.store.ledger, "append", after=lambda: audience.define({"plan": "paid", "score": {"$gte": 3}}))
    outlook = audience.round(ledger=edit)
    entered = [("entered", f"contact-{key}") for key in "abdef"]
    assert audience.events() == entered
    assert audience.causes() == ["data", "data", *["definition"] * 3]
    audience.round(NOON + SECOND, Look(Changes(complete=True, complete_at=NOON), outlook))
    assert audience.events() == [*entered, ("exited", "contact-a"), ("exited", "contact-b")]


@pytest.mark.parametrize("back", ["within the look", "before the next look"])
def test_an_edit_that_is_taken_back_has_the_next_look_look_at_everything(
    service: Service, org: str, tracked: Any, monkeypatch: pytest.MonkeyPatch, back: str
) -> None:
    """Some of a look were judged by what the audience is no more, and the filter is the one of before again."""
    monkeypatch.setattr(ledger_module, "_JUDGED", 1)
    service.insert(org, [{"id": key, "data": {"score": 1}} for key in "abc"])
    audience = tracked({"plan": "paid"})
    audience.round()
    for key in "abc":
        audience.update(key, **{"data.plan": "paid"})
    taken_back = Midst(service.store.ledger, "append", after=lambda: audience.define({"plan": "paid"}))
    edit = Midst(
        taken_back if back == "within the look" else service.store.ledger,
        "judge",
        before=lambda: audience.define({"plan": "paid", "score": {"$gte": 2}}),
    )
    for key in "ac":
        audience.update(key, **{"data.score": 2})
    outlook = audience.round(ledger=edit)
    audience.define({"plan": "paid"})
    audience.round(NOON + SECOND, Look(Changes(complete=True, complete_at=NOON + SECOND), outlook))
    assert sorted(audience.events()) == [("entered", f"contact-{key}") for key in "abc"]


def test_a_look_that_cannot_say_as_of_when_all_is_told_notes_that_it_judged_by_several_filters_all_the_same(
    service: Service, org: str, tracked: Any
) -> None:
    """As on a sharded cluster that has told of no change yet."""
    service.insert(org, [{"id": "a", "data": {"score": 1}}])
    audience = tracked({"plan": "paid"})
    outlook = audience.round()
    audience.update("a", **{"data.plan": "paid"})
    edit = Midst(service.store.ledger, "judge", after=lambda: audience.define({"plan": "paid", "score": {"$gte": 2}}))
    told = Changes(frozenset((f"{org}/contact/a",)), complete=True)
    outlook = audience.round(NOON + SECOND, Look(told, outlook), ledger=edit)
    assert (audience.events(), audience.watch().as_of) == ([], NOON)
    audience.define({"plan": "paid"})
    audience.round(NOON + 2 * SECOND, Look(Changes(complete=True), outlook))
    assert audience.events() == [("entered", "contact-a")]


def test_what_others_told_behind_a_looks_own_events_by_a_filter_that_was_taken_back_is_undone(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": key, "data": {"score": 1}} for key in "ab"])
    audience = tracked({"plan": "paid"})
    outlook = audience.round()
    audience.update("a", **{"data.plan": "paid"})

    def look() -> None:
        """Another process has lost the lease, and knows the event that has just been appended."""
        audience.define({"score": {"$gte": 1}})
        with pytest.raises(Overtaken):
            audience.round(NOON + SECOND, lease="a lease that was lost")
        audience.define({"plan": "paid"})

    told = Changes(frozenset((f"{org}/contact/a",)), complete=True, complete_at=NOON + SECOND)
    appended = Midst(service.store.ledger, "append", after=look)
    outlook = audience.round(NOON + SECOND, Look(told, outlook), ledger=appended)
    assert audience.events() == [("entered", "contact-a"), ("entered", "contact-b")]
    audience.round(NOON + 2 * SECOND, Look(Changes(complete=True, complete_at=NOON + 2 * SECOND), outlook))
    assert audience.events()[2:] == [("exited", "contact-b")]


def test_an_audience_that_is_edited_without_a_pause_is_looked_at_anew(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"score": 1}}])
    audience = tracked({"plan": "paid"})
    audience.round()
    audience.update("a", **{"data.plan": "paid"})
    judged: list[int] = []

    class Edited:
        """A ledger whose audience is edited at each judgement."""

        def __getattr__(self, name: str) -> Any:
            if name == "judge":
                judged.append(1)
                audience.define({"plan": "paid", "score": {"$gte": -len(judged)}})
            return getattr(service.store.ledger, name)

    with pytest.raises(Overtaken):
        audience.round(ledger=Edited())
    assert (len(judged), audience.events()) == (10, [])
    audience.round()
    assert audience.events() == [("entered", "contact-a")]
