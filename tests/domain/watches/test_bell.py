"""The bell by which watchers are woken."""

import gc
import threading
import weakref

from audience_service.domain.watches.bell import Bell


class Reason:
    """Something to ring for."""


def test_a_ring_is_heard_by_those_alone_who_listen_for_its_reason() -> None:
    bell = Bell()
    with bell.listen("a") as ear, bell.listen("a") as other, bell.listen("b") as deaf:
        bell.ring("a")
        assert [each.wait(0) for each in (ear, other, deaf)] == [True, True, False]


def test_a_ring_is_heard_once_whether_it_comes_before_the_wait_or_in_it() -> None:
    bell = Bell()
    with bell.listen() as ear:
        ringer = threading.Thread(target=bell.ring)
        ringer.start()
        assert ear.wait(60)
        ringer.join()
        assert not ear.wait(0)


def test_nothing_is_kept_of_what_nobody_listens_for() -> None:
    bell = Bell()
    listened, rung = Reason(), Reason()
    kept = [weakref.ref(listened), weakref.ref(rung)]
    with bell.listen(listened):
        bell.ring(listened)
    bell.ring(rung)
    del listened, rung
    gc.collect()
    assert [reason() for reason in kept] == [None, None]


def test_others_who_listen_for_the_same_go_on() -> None:
    bell = Bell()
    with bell.listen("a") as ear:
        with bell.listen("a"):
            pass
        bell.ring("a")
        assert ear.wait(0)
