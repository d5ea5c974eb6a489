"""Page tokens and cursors are sealed, bound to their request and good after a restart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.errors import InvalidPageToken
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import Page, PageKey, PageRequest

TOKENS = TokenCodec(b"key")
BINDING = ("members", "acme", {"b": 1, "a": None})


def test_a_token_opens_in_another_process_for_an_equal_request() -> None:
    token = TOKENS.encode(BINDING, ["acme/contact/1", 5])
    assert TokenCodec(b"key").decode(token, ("members", "acme", {"a": None, "b": 1}), "cursor") == ["acme/contact/1", 5]


def test_a_token_opens_for_no_other_request_and_no_other_key() -> None:
    token = TOKENS.encode(BINDING, [1])
    for tokens, binding in ((TOKENS, ("members", "acme2", BINDING[2])), (TokenCodec(b"other"), BINDING)):
        with pytest.raises(InvalidPageToken) as caught:
            tokens.decode(token, binding, "cursor")
        assert caught.value.violations[0].field == "cursor"


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_whatever_a_client_sends_as_a_token_is_refused_cleanly(token: str) -> None:
    with pytest.raises(InvalidPageToken):
        TOKENS.decode(token, BINDING, "cursor")


@given(st.integers(0, 200), st.characters())
def test_a_token_with_a_changed_character_is_refused(position: int, character: str) -> None:
    token = TOKENS.encode(BINDING, ["acme/contact/1", 5])
    position %= len(token) - 1  # the last character of base64 has bits that say nothing
    changed = token[:position] + character + token[position + 1 :]
    if changed != token:
        with pytest.raises(InvalidPageToken):
            TOKENS.decode(changed, BINDING, "cursor")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_the_pages_of_a_list_have_each_item_once(size: int) -> None:
    """Following `next_page_token` to the empty one returns the complete list in order."""
    stored = list("abcdefg")

    def read(after: PageKey | None) -> Page[str]:
        start = stored.index(after[0]) + 1 if after else 0
        return Page.cut(stored[start : start + size + 1], size, lambda item: item, len(stored)).map(str.upper)

    seen: list[str] = []
    page = TOKENS.page(PageRequest(size), BINDING, read)
    while page.next_page_token:
        assert (len(page.items), page.total) == (size, len(stored))
        seen += page.items
        page = TOKENS.page(PageRequest(size, page.next_page_token), BINDING, read)
    assert [*seen, *page.items] == [item.upper() for item in stored]


def test_a_page_token_of_another_list_is_refused_before_the_read() -> None:
    """The error is at `page_token`, and nothing is read."""
    with pytest.raises(InvalidPageToken) as caught:
        TOKENS.page(PageRequest(1, TOKENS.encode(("another",), [1])), BINDING, lambda _: pytest.fail("read"))
    assert caught.value.violations[0].field == "page_token"
