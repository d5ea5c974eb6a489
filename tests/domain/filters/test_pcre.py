"""PCRE's syntax in Python's: what is translated, and what is refused by name."""

import re

import pytest

from audience_service.domain.filters.pcre import UnsupportedPattern, translate


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^\p{L}+$", "Zo\u00eb"), (r"^\pL$", "a"), (r"^[\p{Lu}\d]+$", "A1"), ("^[[:alpha:]]+$", "abc"),
        ("^[^[:digit:]]$", "x"), (r"^\Qa.b\E$", "a.b"), (r"^\x{e9}$", "\u00e9"), (r"^\h$", "\t"), (r"a\Rb", "a\r\nb"),
        ("^(?<year>[0-9]+)$", "2026"), ("(?|a|b)", "b"), (r"x\z", "x"), ("[[a]", "["), ("[]a]", "]"), (r"[\h]x", " x"),
        ("^[[:^digit:]]$", "x"), (r"\Kx", "x"),
    ],
)  # fmt: skip
def test_a_translation_matches_what_the_pattern_matches(pattern: str, text: str) -> None:
    assert re.search(translate(pattern).pattern, text)


def test_an_option_inside_the_pattern_ignores_case() -> None:
    translated = translate("^(?i)x")
    assert (translated.pattern, translated.ignore_case) == ("^x", True)
    assert not translate("^(?s)x(?-i)").ignore_case


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("[[:letter:]]", "names the class [:letter:]"), ("(?R)", "recursion"), ("(a)(?1)", "recursion"),
        ("(*SKIP)a", "verbs"), (r"\u0041", "PCRE does not support"), (r"\N{DIGIT ONE}", "PCRE does not support"),
        ("a(?x)b", "$options"), ("[[.a.]]", "PCRE does not support"), (r"\x{110000}", "no character"),
    ],
)  # fmt: skip
def test_a_refused_pattern_names_its_reason(pattern: str, reason: str) -> None:
    with pytest.raises(UnsupportedPattern) as caught:
        translate(pattern)
    assert reason in str(caught.value)
