"""Page tokens and cursors: positions at which a list or stream continues, signed and bound to the request."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from audience_service.domain.core.errors import InvalidPageToken
from audience_service.domain.core.pages import Item, ListedPage, Page, PageKey, PageRequest


class TokenCodec:
    """Signs positions with a key that all processes of the service share, so that tokens survive a restart.

    A token contains record keys of the caller's own org. The signature protects them from changes and does not hide
    them. Tenant isolation does not depend on tokens: the repository adds the org's scope to every query.
    """

    def __init__(self, key: bytes) -> None:
        self._serializer = URLSafeSerializer(
            key, salt="audience.v1.position", signer_kwargs={"digest_method": hashlib.sha256}
        )

    def encode(self, binding: tuple[Any, ...], position: list[Any]) -> str:
        """The token for `position` (JSON values) in the request that `binding` describes."""
        return str(self._serializer.dumps([_digest(binding), position]))

    def decode(self, token: str, binding: tuple[Any, ...], field_path: str) -> list[Any]:
        """The position in a token. Raises InvalidPageToken if it is damaged or bound to another request."""
        try:
            bound_to, position = self._serializer.loads(token)
        except (BadData, ValueError, TypeError, RecursionError):
            raise InvalidPageToken.at(
                field_path, "is damaged or signed with another key; start again without it"
            ) from None
        if bound_to != _digest(binding):
            raise InvalidPageToken.at(field_path, "belongs to another request; start again without it")
        return list(position)

    def page(
        self, request: PageRequest, binding: tuple[Any, ...], read: Callable[[PageKey | None], Page[Item]]
    ) -> ListedPage[Item]:
        """The requested page of the list that `binding` describes.

        `read` reads the page after a key, or the first page for None. Raises InvalidPageToken.
        """
        page = read(self.decode(request.token, binding, "page_token") if request.token else None)
        return ListedPage(page.items, self.encode(binding, list(page.last_key)) if page.last_key else "", page.total)


def digest(value: Any) -> str:
    """A digest of JSON-like values, the same for equal values in any process."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _digest(binding: tuple[Any, ...]) -> str:
    return digest(binding)[:16]
