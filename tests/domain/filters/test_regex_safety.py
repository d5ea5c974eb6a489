"""Patterns: those that could backtrack without end are refused, those that people write are not."""

import re

import pytest

from audience_service.domain.filters.regex_safety import DangerousPattern, check_backtracking

DANGEROUS = [
    "(a+)+$", "(a*)*", "(a|a)*", "(a|aa)+", "(a|b|ab)*c", "(.*a){20}", "(a?){30}", r"^(\w+\s?)*$", "(x+x+)+y",
    "((a{1,20}){1,20}){1,20}", "^(([a-z])+.)+[A-Z]([a-z])+$", r"(.|\s)*x", "([a-z]+)*@", "(?:a+)+", "(?P<x>a+)+",
    "(?=(a+)+b)", "(?>(a+)+)b", "(a+|b)+", "(é+)+", "([^@]+)+@", r"(\d+\w)+",
    ".*.*", r"\d+\d+", "a*a{25}", ".*a.*b.*c.*d.*e", "a?" * 21 + "a" * 21, "(ab|ac?b)" * 11,
    r"(a)\1", r"(a+)(b)?(?(2)c|d)", r"^\w+([.-]?\w+)*@x", r"(?:\.[a-z]*[a-z]*)*$", "(ab|abc|abcd)+", "(ab|ab)+",
    "(a|ab)" * 11, r"\D*0\d*.*1.*2.*3.*4.*5",
]  # fmt: skip
HARMLESS = [
    "^Mun", "ren.e@ex.mple", r"^([a-z0-9-]+\.)+example\.com$", r"@(gmail|googlemail)\.com$", r"^\+49", r"foo.*\d+$",
    "(foo|bar)+", r"^(\d{1,3}\.){3}\d{1,3}$", r"^\s*$", r"[^@]+@[^@]+\.[a-z]{2,}", "(?i)x", "colou?rs?",
    r"^(?:.*\.)?x$", "(?=.*a)(?=.*b)x", "a{2,5}b*", "^.{3,}$", "(a|b)+", r"\bVIP\b", r"^(https?://)?(www\.)?ex",
    "(,[^,]*){4}", "(a|A)+", "(foo|bar|First)+ ", r"[|a]+b", r"[a-z]+\w+$", r"^(\w+ )+end",
    "@(acme|apple|amazon|adobe|airbnb|alphabet|alibaba|amd|atlassian|autodesk|asana|airtable)\\.com$",
    "(" + "|".join(f"company{n:03}" for n in range(90)) + ")", "(foo|far|fun)+x",
    r"^[\w.+-]+@([\w-]+\.)+[\w-]{2,}$", r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$",
    r"^[\w.!#$%&'*+/=?^`{|}~-]+@[^\W_](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$",
    r"^[^@\s]+@[^@\s]+\.[^@\s]+$", r"2\D*0\D*2\D*5\D*5\D*5\D*0\D*1\D*0\D*0",
    "", "(?:)", "(ab?)+b?c", "(日本|東京)+", r"\d{4}-\d{2}-\d{2}", "(a++)b", ".*a.*b.*c",
]  # fmt: skip


@pytest.mark.parametrize("pattern", DANGEROUS)
def test_a_pattern_that_may_backtrack_without_end_is_refused(pattern: str) -> None:
    with pytest.raises(DangerousPattern):
        check_backtracking(pattern)


@pytest.mark.parametrize("pattern", HARMLESS)
def test_an_ordinary_pattern_is_accepted(pattern: str) -> None:
    check_backtracking(pattern)


def test_white_space_counts_without_the_x_option() -> None:
    check_backtracking("(a+ )+")
    with pytest.raises(DangerousPattern):
        check_backtracking("(a+ )+", re.VERBOSE)


def test_letter_cases_are_equal_with_the_i_option() -> None:
    check_backtracking("(a|A)+")
    with pytest.raises(DangerousPattern):
        check_backtracking("(a|A)+", re.IGNORECASE)
