"""The platforms' rows, and the page that documents them."""

from pathlib import Path

import pytest

from audience_service.domain.identifiers.platforms import PLATFORM_RULES
from audience_service.domain.identifiers.rows import SOURCES
from audience_service.domain.identifiers.rules import PlatformRules

PAGE = (Path(__file__).parents[3] / "docs/reference/identifiers.md").read_text()


@pytest.mark.parametrize("rules", PLATFORM_RULES, ids=lambda rules: rules.version)
def test_every_row_is_documented_and_can_be_read(rules: PlatformRules) -> None:
    names = {rules.version, *(rule.column for rule in rules.fields), *(rule.field for rule in rules.fields)}
    for option in rules.options:
        names |= {option.name, *option.choices}
        for choice in option.choices.values():
            names |= {str(change["column"]) for change in choice.values() if "column" in change}
    assert {name for name in names if f"`{name}`" not in PAGE} == set()
    assert {rule.field for rule in rules.fields} <= SOURCES.keys()
    assert f"{rules.batch_size:,}" in PAGE


@pytest.mark.parametrize("rules", PLATFORM_RULES, ids=lambda rules: rules.version)
def test_a_rows_options_and_keys_are_of_its_fields(rules: PlatformRules) -> None:
    fields = {rule.field for rule in rules.fields}
    assert all(key <= fields for key in rules.keys)
    assert rules.all_or_none <= fields
    assert all(separate <= set().union(*rules.keys) for separate in rules.separate)
    for option in rules.options:
        first, *others = option.choices.values()
        assert not first, "the first choice is what the row says"
        assert others
        assert all(choice.keys() <= fields for choice in others)
