"""Page tokens, cursors and resume tokens: where a list or stream continues, sealed and bound to the request.

    3f9c20b1.gAAAAAB…      the id of the sealing key, a dot, and the sealed position

1. Only a process with the key can write or read a position (Fernet: AES-128-CBC and HMAC-SHA256).
2. A position is not compressed, so it is smaller than its token, and a token has at most MAX_TOKEN_LENGTH characters.
3. Even a position under the right key is checked: a use case gets only values of the types that it asks for.
4. Tenant isolation does not depend on tokens: the repository adds the org's scope to every query.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken

from audience_service.domain.core.errors import InvalidPageToken, UnknownSealingKey
from audience_service.domain.core.pages import Item, ListedPage, Page, PageKey, PageRequest

MAX_TOKEN_LENGTH = 32 * 1024
"""The most characters of a token. The longest position, a key range with three record keys, takes a few hundred."""

_FORM = re.compile(r"([0-9a-f]{8})\.([A-Za-z0-9_-]+=*)", re.ASCII)
_MAX_NUMBER: Final = 2**53
"""Above any count or sequence number, and small enough to add to."""

Shape = tuple[type[str] | type[int] | type[datetime], ...]
"""The types of a position's values. An `int` is not negative. A `datetime` is text: an ISO date in UTC."""


class TokenCodec:
    """Seals and opens positions with keys that all processes of the service share, so that tokens survive a restart."""

    def __init__(self, *secrets: bytes) -> None:
        """The first secret seals new tokens, and all of them open tokens."""
        self._keys = {_key_id(secret): _fernet(secret) for secret in secrets}
        self._sealing_id = _key_id(secrets[0])

    def encode(self, binding: tuple[Any, ...], position: Sequence[Any]) -> str:
        """The token for `position` (JSON values) in the request that `binding` describes."""
        content = json.dumps([_digest(binding), position], separators=(",", ":"))
        return f"{self._sealing_id}.{self._keys[self._sealing_id].encrypt(content.encode()).decode()}"

    def decode(self, token: str, binding: tuple[Any, ...], field_path: str, *shapes: Shape) -> list[Any]:
        """The position in a token, which has one of the shapes.

        Raises UnknownSealingKey if this process lacks the key; InvalidPageToken if the token is damaged, is bound to
        another request, or contains another position than the request can continue from.
        """
        form = _FORM.fullmatch(token) if len(token) <= MAX_TOKEN_LENGTH else None
        if not form:
            raise InvalidPageToken.at(field_path, "is not a token of this service; start again without it")
        key_id, sealed = form.groups()
        if key_id not in self._keys:
            raise UnknownSealingKey.at(field_path, key_id)
        try:
            bound_to, position = json.loads(self._keys[key_id].decrypt(sealed))
        except (InvalidToken, ValueError, TypeError, RecursionError):
            raise InvalidPageToken.at(field_path, "is damaged; start again without it") from None
        if bound_to != _digest(binding):
            raise InvalidPageToken.at(field_path, "belongs to another request; start again without it")
        if not isinstance(position, list) or not any(_has_shape(position, shape) for shape in shapes):
            raise InvalidPageToken.at(field_path, "has no valid position; start again without it")
        return position

    def page(
        self,
        request: PageRequest,
        binding: tuple[Any, ...],
        read: Callable[[PageKey | None], Page[Item]],
        *shapes: Shape,
    ) -> ListedPage[Item]:
        """The requested page of the list that `binding` describes.

        `read` reads the page after a key of one of the shapes, or the first page for None. Raises as `decode` does.
        """
        page = read(self.decode(request.token, binding, "page_token", *shapes) if request.token else None)
        return ListedPage(page.items, self.encode(binding, list(page.last_key)) if page.last_key else "", page.total)


def digest(value: Any) -> str:
    """A digest of JSON-like values, the same for equal values in any process."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _digest(binding: tuple[Any, ...]) -> str:
    return digest(binding)[:16]


def _key_id(secret: bytes) -> str:
    return hmac.digest(secret, b"audience.v1.key-id", "sha256").hex()[:8]


def _fernet(secret: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hmac.digest(secret, b"audience.v1.position", "sha256")))


def _has_shape(position: Sequence[Any], shape: Shape) -> bool:
    return len(position) == len(shape) and all(map(_is_a, position, shape))


def _is_a(value: Any, kind: type) -> bool:
    if kind is int:
        return type(value) is int and 0 <= value < _MAX_NUMBER
    return isinstance(value, str) and _is_encodable(value) and (kind is str or _is_utc_date(value))


def _is_encodable(text: str) -> bool:
    """Whether BSON can contain the text: JSON can escape half of a surrogate pair, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_utc_date(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() == timedelta()
    except ValueError:
        return False
