"""The comparison of `make bench-smoke` with the recorded ratios."""

from bench.smoke import find_slower


def test_only_recorded_rows_that_are_half_as_slow_again_fail() -> None:
    recorded = {"a": 2.0, "b": 2.0}
    assert find_slower({"a": 3.0, "b": 0.1, "new": 9.0}, recorded) == []
    assert find_slower({"a": 3.1, "b": 0.1}, recorded) == ["a: 3.10 times the reference, and 2.00 are recorded"]
