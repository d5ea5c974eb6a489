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
    rules = choose_rules("meta", "", {}, ["email", "phone", "first_name", "last_name"])
    staying = RetainedIdentifiers(IdentifierExtractor(rules))
    staying.add(("stays", "2", "", ""))
    staying.add(("", "", "Bob", "Lee"))
    found = staying.remove_from(row)
    assert (None if found is None else tuple(found)) == left
