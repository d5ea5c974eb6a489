"""Masks: no value of a personal or unknown field gets through."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.schema.sample_masking import HIDDEN, MASKS, VISIBLE_FIELDS, mask_profile


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1) | st.integers() | st.lists(st.text())))
def test_fields_that_are_not_known_are_hidden(data: dict[str, Any]) -> None:
    unknown = {name: value for name, value in data.items() if name not in VISIBLE_FIELDS and name not in MASKS}
    assert set(mask_profile(unknown).values()) <= {HIDDEN}


@given(st.sampled_from(sorted(MASKS)), st.none() | st.integers() | st.text() | st.lists(st.text()) | st.booleans())
def test_a_mask_shows_at_most_a_hint(name: str, value: Any) -> None:
    shown = mask_profile({name: value})[name]
    if isinstance(value, str) and len(value) > 6 and "@" not in value:
        assert value not in str(shown)
    assert shown is None or "*" in shown
