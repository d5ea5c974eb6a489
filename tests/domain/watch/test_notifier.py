"""The bell by which watchers are woken."""

import gc
import threading
import weakref

import pytest

from audience_service.domain.watch.notifier import Notifier


class Topic:
    """Something to ring for."""


def test_notify_wakes_only_waiters_of_its_topic() -> None:
    notifier = Notifier()
    with notifier.subscribe("a") as waiter, notifier.subscribe("a") as other, notifier.subscribe("b") as unrelated:
        notifier.notify("a")
        assert [each.wait(0) for each in (waiter, other, unrelated)] == [True, True, False]


def test_a_notification_wakes_one_wait_even_if_it_arrives_before_the_wait() -> None:
    notifier = Notifier()
    with notifier.subscribe() as waiter:
        notifying_thread = threading.Thread(target=notifier.notify)
        notifying_thread.start()
        assert waiter.wait(60)
        notifying_thread.join()
        assert not waiter.wait(0)


@pytest.mark.slow
def test_topics_without_waiters_are_freed() -> None:
    notifier = Notifier()
    subscribed, notified = Topic(), Topic()
    kept = [weakref.ref(subscribed), weakref.ref(notified)]
    with notifier.subscribe(subscribed):
        notifier.notify(subscribed)
    notifier.notify(notified)
    del subscribed, notified
    gc.collect()
    assert [topic() for topic in kept] == [None, None]


def test_other_waiters_of_a_topic_stay_subscribed() -> None:
    notifier = Notifier()
    with notifier.subscribe("a") as waiter:
        with notifier.subscribe("a"):
            pass
        notifier.notify("a")
        assert waiter.wait(0)
