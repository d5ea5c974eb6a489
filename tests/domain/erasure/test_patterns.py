"""What an erasure replaces in stored documents, and what it leaves."""

from typing import Any

import pytest

from audience_service.domain.erasure.model import Person
from audience_service.domain.erasure.patterns import person_pattern, redact

DIGEST = "ab" * 32
ANN = Person(("contact-1",), ("acme/contact/1",), ("ann@example.com",), ("4155550177",), (DIGEST,))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"name": "not Ann@Example.com"}, {"name": "not (erased)"}),
        ({"description": "call 415-555-0177"}, {"description": "call (erased)"}),
        ({"filter": {"where": {"phone": 14155550177}}}, {"filter": {"where": {"phone": "(erased)"}}}),
        ({"filter": {"email": {"$regex": r"^ann@example\.com$"}}}, {"filter": {"email": {"$regex": "^(erased)$"}}}),
        ({"where": [{"pk": "contact-1"}]}, {"where": [{"pk": "(erased)"}]}),
        ({"note": DIGEST}, {"note": "(erased)"}),
        ({"next_offset": 14155550177, "size_bytes": 4155550177}, None),
        ({"digest": f"a4155550177{'c' * 53}"}, None),
        ({"name": "joann@example.com.au, contact-12, 41555501770"}, None),
    ],
)
def test_texts_and_filters_lose_the_person(value: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """Counts, sizes and other digests stay; None is the value unchanged."""
    assert redact(value, person_pattern(ANN)) == (value if expected is None else expected)
