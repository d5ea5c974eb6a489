"""Where samples are taken: keys between an org's first and last, spread over them."""

import random
from bisect import bisect_right
from collections import Counter

import pytest

from audience_service.mongo.schema.repository import random_keys


@pytest.fixture
def rng() -> random.Random:
    """What draws the keys: the same in each test, whichever ran before."""
    return random.Random(1)


def test_keys_lie_between_the_first_and_the_last(rng: random.Random) -> None:
    keys = random_keys(["acme/contact/0aB"], ["acme/contact/zZ9"], 200, rng)
    assert all("acme/contact/0aB" <= key[: len("acme/contact/0aB")] <= "acme/contact/zZ9" for key in keys)
    assert len(set(keys)) == 200


def test_sequential_keys_are_sampled_evenly(rng: random.Random) -> None:
    first = [f"acme/contact/{number:08d}" for number in range(50)]
    last = [f"acme/contact/{number:08d}" for number in range(99_999, 99_949, -1)]
    keys = random_keys(first, last, 1_000, rng)
    tenths = Counter(int(key.removeprefix("acme/contact/")[:8]) // 10_000 for key in keys)
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 150


@pytest.mark.slow
def test_random_keys_are_sampled_evenly(rng: random.Random) -> None:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    stored_keys = sorted("acme/contact/" + "".join(rng.choices(alphabet, k=21)) for _ in range(10_000))
    keys = random_keys(stored_keys[:50], stored_keys[:-51:-1], 1_000, rng)
    tenths = Counter(bisect_right(stored_keys, found) // 1_000 for found in keys)
    assert set(tenths) >= set(range(10))
    assert max(tenths.values()) < 150


def test_a_single_key_is_sampled(rng: random.Random) -> None:
    assert random_keys(["acme/contact/a"], ["acme/contact/a"], 1, rng)[0].startswith("acme/contact/a")
    assert len(random_keys(["acme/contact/a", "acme/contact/b"], ["acme/contact/é", "acme/contact/b"], 5, rng)) == 5
