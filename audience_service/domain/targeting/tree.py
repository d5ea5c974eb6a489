"""A tree of nodes that can be searched: a packaged taxonomy, or a platform's own tree in the store."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from audience_service.domain.targeting.bitmap import Bitmap
from audience_service.domain.targeting.model import Node
from audience_service.domain.targeting.name_index import Matches


class Tree(Protocol):
    """Nodes, numbered from 0 in the order in which equal matches are listed."""

    @property
    def version(self) -> str:
        """Node numbers are valid only within one version."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of its nodes."""

    @property
    def default_nodes(self) -> Bitmap:
        """The nodes of a list without a kind."""

    def __len__(self) -> int:
        """The number of nodes."""

    def number(self, node_id: str) -> int | None:
        """The number of a node; None if the id is unknown."""

    def find(self, normalised: str) -> Matches:
        """The nodes that a normalised query finds."""

    def kind_set(self, kind: str) -> Bitmap:
        """The nodes of a kind."""

    def country_set(self, country: str) -> Bitmap:
        """The nodes in a country, by its code."""

    def child_set(self, number: int) -> Bitmap:
        """The children of a node, or the top-level nodes for -1."""

    def descendants(self, number: int) -> Bitmap:
        """All nodes below a node."""

    def inside(self, numbers: Bitmap, above: Bitmap) -> Bitmap:
        """Those of `numbers` that are below any node of `above`."""

    def main_names(self, numbers: Bitmap) -> Mapping[int, str]:
        """The names of nodes, by number."""

    def nodes(self, numbers: Sequence[int]) -> Sequence[Node]:
        """The nodes with these numbers, in this order."""
