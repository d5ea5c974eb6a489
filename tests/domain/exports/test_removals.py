"""What is left of a row to remove, where somebody who stays has some of it too."""

import pytest

from audience_service.domain.exports.readiness import Row
from audience_service.domain.exports.removals import RetainedIdentifiers
from audience_service.domain.identifiers import IdentifierExtractor, choose_rules


@pytest.mark.parametrize(
    ("row", "left"),
    [
        (("gone", "1", "", ""), ("gone", "1", "", "")),
        (("stays", "1", "", ""), ("", "1", "", "")),
        (("stays", "2", "", ""), None),
        (("stays", "", "Ann", "Lee"), ("", "", "Ann", "Lee")),
        (("stays", "", "Bob", "Lee"), None),
        (("", "", "Bob", "Lee"), None),
        (("gone", "", "Bob", "Lee"), ("gone", "", "", "")),
        (("2", "stays", "", ""), ("2", "stays", "", "")),
    ],
)
def test_a_removal_row_loses_identifiers_of_current_members(row: Row, left: Row | None) -> None:
    staying = _staying()
    staying.add(("stays", "2", *_EMPTY))
    staying.add(("", "", "Bob", "Lee", *_EMPTY[2:]))
    found = staying.remove_from((*row, *_EMPTY[2:]))
    assert (None if found is None else tuple(found)) == (None if left is None else (*left, *_EMPTY[2:]))


def test_a_further_address_of_a_current_member_is_never_removed() -> None:
    staying = _staying()
    staying.add(("stays", "", "", "", "also", "", "", ""))
    assert staying.remove_from(("also", "", *_EMPTY)) is None
    assert staying.remove_from(("gone", "", "", "", "stays", "", "", "")) == ["gone", "", "", "", "", "", "", ""]


_EMPTY = ("", "", "", "", "", "")
"""The empty values of a row without an email address and a phone number."""


def _staying() -> RetainedIdentifiers:
    rules = choose_rules("meta", "", {}, ["email", "phone", "first_name", "last_name"])
    return RetainedIdentifiers(IdentifierExtractor(rules))
