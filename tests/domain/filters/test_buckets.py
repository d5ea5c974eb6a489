"""The Python twin of the hash behind $bucket."""

from collections import Counter
from itertools import combinations

from audience_service.domain.filters.buckets import HASH_VECTOR, bucket_of, hashed_index_key

IDS = [f"contact-{number:06}" for number in range(20_000)]
_CRITICAL = 29.0
"""The chi-squared value that 9 degrees of freedom exceed in 1 of 1,500 cases."""


def _chi_squared(counts: list[int], total: int) -> float:
    expected = total / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def test_the_hash_is_that_of_mongodb() -> None:
    """The vector is from the page of $toHashedIndexKey in MongoDB's manual."""
    text, expected = HASH_VECTOR
    assert hashed_index_key(text) == expected


def test_sequential_ids_fill_buckets_evenly() -> None:
    counts = Counter(bucket_of(contact_id, "spring", 10) for contact_id in IDS)
    assert _chi_squared([counts[bucket] for bucket in range(10)], len(IDS)) < _CRITICAL


def test_salts_are_independent() -> None:
    """The halves of any two salts overlap in a quarter of the ids, within five standard deviations."""
    halves = [{contact_id for contact_id in IDS if bucket_of(contact_id, salt, 2) == 0} for salt in "abcdef"]
    deviation = (len(IDS) * 3 / 16) ** 0.5
    assert all(abs(len(one & two) - len(IDS) / 4) < 5 * deviation for one, two in combinations(halves, 2))
