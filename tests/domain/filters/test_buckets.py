"""The Python twin of the hash behind $bucket."""

from collections import Counter
from itertools import combinations

import pytest

from audience_service.domain.filters.buckets import HASH_VECTOR, bucket_of, hashed_index_key
from bench.buckets import KINDS, chi_squared, create_ids, p_value

IDS = [f"contact-{number:06}" for number in range(20_000)]
_CRITICAL = 29.0
"""The chi-squared value that 9 degrees of freedom exceed in 1 of 1,500 cases."""


def test_the_hash_is_that_of_mongodb() -> None:
    """The vector is from the page of $toHashedIndexKey in MongoDB's manual."""
    text, expected = HASH_VECTOR
    assert hashed_index_key(text) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_each_kind_fill_buckets_evenly(kind: str) -> None:
    """`make bench-buckets` repeats this for a million ids, and for each pair of 20 salts."""
    counts = Counter(bucket_of(contact_id, "spring", 10) for contact_id in create_ids(kind, 20_000))
    statistic = chi_squared([counts[bucket] for bucket in range(10)])
    assert statistic < _CRITICAL
    assert p_value(statistic, 9) > 1 / 1_500


def test_the_probability_of_a_statistic_is_that_of_tables() -> None:
    """The values are from tables of the chi-squared distribution."""
    for freedom, statistic, probability in ((9, 16.919, 0.05), (9, 27.877, 0.001), (99, 123.225, 0.05)):
        assert p_value(statistic, freedom) == pytest.approx(probability, rel=0.1)


def test_salts_are_independent() -> None:
    """The halves of any two salts overlap in a quarter of the ids, within five standard deviations."""
    halves = [{contact_id for contact_id in IDS if bucket_of(contact_id, salt, 2) == 0} for salt in "abcdef"]
    deviation = (len(IDS) * 3 / 16) ** 0.5
    assert all(abs(len(one & two) - len(IDS) / 4) < 5 * deviation for one, two in combinations(halves, 2))
