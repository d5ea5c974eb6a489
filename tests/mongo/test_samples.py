"""Where samples are taken: keys between an org's first and last, spread over them."""

import random
from collections import Counter

import pytest

from audience_service.mongo.samples import random_keys


@pytest.fixture
def chance() -> random.Random:
    """What draws the keys: the same in each test, whichever ran before."""
    return random.Random(1)


def test_keys_lie_between_the_first_and_the_last(chance: random.Random) -> None:
    keys = random_keys(["acme/contact/0aB"], ["acme/contact/zZ9"], 200, chance)
    assert all("acme/contact/0aB" <= key[: len("acme/contact/0aB")] <= "acme/contact/zZ9" for key in keys)
    assert len(set(keys)) == 200


def test_keys_in_sequence_are_met_all_over(chance: random.Random) -> None:
    first = [f"acme/contact/{number:08d}" for number in range(50)]
    last = [f"acme/contact/{number:08d}" for number in range(99_999, 99_949, -1)]
    keys = random_keys(first, last, 1_000, chance)
    tenths = Counter(int(key.removeprefix("acme/contact/")[:8]) // 10_000 for key in keys)
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 150


def test_random_keys_are_met_all_over(chance: random.Random) -> None:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    held = sorted("acme/contact/" + "".join(chance.choices(alphabet, k=21)) for _ in range(10_000))
    keys = random_keys(held[:50], held[:-51:-1], 1_000, chance)
    tenths = Counter(sum(key <= found for key in held) // 1_000 for found in keys)
    assert set(tenths) >= set(range(10))
    assert max(tenths.values()) < 150


def test_one_key_is_met_itself(chance: random.Random) -> None:
    assert random_keys(["acme/contact/a"], ["acme/contact/a"], 1, chance)[0].startswith("acme/contact/a")
    assert len(random_keys(["acme/contact/a", "acme/contact/b"], ["acme/contact/é", "acme/contact/b"], 5, chance)) == 5
