"""Page tokens and cursors are sealed, bound to their request and good after a restart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.errors import InvalidPageToken, UnknownSealingKey
from audience_service.domain.core.page_tokens import MAX_TOKEN_LENGTH, TokenCodec
from audience_service.domain.core.pages import Page, PageKey, PageRequest

TOKENS = TokenCodec(b"key")
BINDING = ("members", "acme", {"b": 1, "a": None})
SHAPE = (str, int)


def test_a_token_opens_in_another_process_for_an_equal_request() -> None:
    token = TOKENS.encode(BINDING, ["acme/contact/1", 5])
    binding = ("members", "acme", {"a": None, "b": 1})
    assert TokenCodec(b"key").decode(token, binding, "cursor", SHAPE) == ["acme/contact/1", 5]


def test_a_token_opens_for_no_other_request() -> None:
    token = TOKENS.encode(BINDING, ["a", 1])
    with pytest.raises(InvalidPageToken) as caught:
        TOKENS.decode(token, ("members", "acme2", BINDING[2]), "cursor", SHAPE)
    assert caught.value.violations[0].field == "cursor"


def test_the_first_key_seals_and_every_key_opens() -> None:
    before, during, after = TokenCodec(b"old"), TokenCodec(b"new", b"old"), TokenCodec(b"new")
    assert during.decode(before.encode(BINDING, ["a", 1]), BINDING, "cursor", SHAPE) == ["a", 1]
    assert after.decode(during.encode(BINDING, ["a", 1]), BINDING, "cursor", SHAPE) == ["a", 1]


def test_a_token_under_a_retired_key_has_a_reason_of_its_own() -> None:
    token = TokenCodec(b"retired").encode(BINDING, ["a", 1])
    with pytest.raises(UnknownSealingKey) as caught:
        TOKENS.decode(token, BINDING, "resume_token", SHAPE)
    assert caught.value.violations[0].field == "resume_token"
    assert caught.value.metadata == {"key_id": token[:8]}


def test_a_token_does_not_show_its_position() -> None:
    assert "acme" not in TOKENS.encode(BINDING, ["acme/contact/1", 5])


def test_a_token_beyond_the_limit_is_not_opened() -> None:
    token = TOKENS.encode(BINDING, ["x" * MAX_TOKEN_LENGTH, 1])
    with pytest.raises(InvalidPageToken):
        TOKENS.decode(token, BINDING, "cursor", SHAPE)


@pytest.mark.parametrize(
    "position",
    [
        [],
        ["a"],
        ["a", 1, 2],
        ["a", "1"],
        ["a", True],
        ["a", -1],
        ["a", 2**53],
        ["a", 1.0],
        [None, 1],
        ["\ud800", 1],
        [[], 1],
    ],
    ids=str,
)
def test_a_position_of_another_shape_is_refused_even_under_the_right_key(position: list[object]) -> None:
    with pytest.raises(InvalidPageToken):
        TOKENS.decode(TOKENS.encode(BINDING, position), BINDING, "cursor", SHAPE)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_whatever_a_client_sends_as_a_token_is_refused_cleanly(token: str) -> None:
    with pytest.raises(InvalidPageToken):
        TOKENS.decode(token, BINDING, "cursor", SHAPE)


@given(st.integers(0, 200), st.characters())
def test_a_token_with_a_changed_character_is_refused(position: int, character: str) -> None:
    token = TOKENS.encode(BINDING, ["acme/contact/1", 5])
    position %= len(token) - 4  # the last characters of base64 have bits that say nothing
    changed = token[:position] + character + token[position + 1 :]
    if changed != token:
        with pytest.raises((InvalidPageToken, UnknownSealingKey)):
            TOKENS.decode(changed, BINDING, "cursor", SHAPE)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_the_pages_of_a_list_have_each_item_once(size: int) -> None:
    """Following `next_page_token` to the empty one returns the complete list in order."""
    stored = list("abcdefg")

    def read(after: PageKey | None) -> Page[str]:
        start = stored.index(after[0]) + 1 if after else 0
        return Page.cut(stored[start : start + size + 1], size, lambda item: item, len(stored)).map(str.upper)

    seen: list[str] = []
    page = TOKENS.page(PageRequest(size), BINDING, read, (str,))
    while page.next_page_token:
        assert (len(page.items), page.total) == (size, len(stored))
        seen += page.items
        page = TOKENS.page(PageRequest(size, page.next_page_token), BINDING, read, (str,))
    assert [*seen, *page.items] == [item.upper() for item in stored]


def test_a_page_token_of_another_list_is_refused_before_the_read() -> None:
    """The error is at `page_token`, and nothing is read."""
    with pytest.raises(InvalidPageToken) as caught:
        TOKENS.page(PageRequest(1, TOKENS.encode(("another",), [1])), BINDING, lambda _: pytest.fail("read"), (int,))
    assert caught.value.violations[0].field == "page_token"
