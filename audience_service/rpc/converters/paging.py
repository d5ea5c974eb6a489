"""The pages and batches that a request asks for."""

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.pages import PageRequest


def decode_size(size: int, field_path: str, *, default: int, maximum: int) -> int:
    """The size of a page or batch: the default for 0, at most the maximum (AIP-158).

    Raises InvalidArgument at `field_path` if the size is negative.
    """
    if size < 0:
        raise InvalidArgument.at(field_path, "is negative; set 0 for the default, or a positive number")
    return min(size or default, maximum)


def decode_page(size: int, token: str, *, default: int, maximum: int) -> PageRequest:
    """The requested page of a list, from `page_size` and `page_token`. Raises InvalidArgument at `page_size`."""
    return PageRequest(decode_size(size, "page_size", default=default, maximum=maximum), token)
