"""The tenant scope, which restricts every query to one org's records, without those of erased people.

Erased contacts are part of the scope, because every query has one: no stream, count or list can forget them. The
processes of a database learn them from its tombstones (mongo/erasure/tombstones.py), at most a second late.
"""

from collections.abc import Callable

from audience_service.domain.filters.filter import Document

ErasedSks = Callable[[str], frozenset[str]]
"""Returns the sort keys of an org's erased contacts. Raises StoreUnavailable, OutOfTime."""


class TenantScope:
    """The scopes of one store's orgs. Every repository of the store has this object."""

    def __init__(self) -> None:
        self._finders: tuple[ErasedSks, ...] = ()

    def exclude(self, find_erased: ErasedSks) -> Callable[[], None]:
        """Exclude these contacts as well, until the returned function is called."""
        self._finders = (*self._finders, find_erased)

        def end() -> None:
            self._finders = tuple(finder for finder in self._finders if finder is not find_erased)

        return end

    def erased_sks(self, org: str) -> frozenset[str]:
        """Return the sort keys that every scope of the org excludes. Raises StoreUnavailable, OutOfTime."""
        found = [find_erased(org) for find_erased in self._finders]
        return found[0] if len(found) == 1 else frozenset().union(*found)

    def match(self, org: str, *conditions: Document) -> Document:
        """Return the match of the org's records that meet all conditions, without those of erased people.

        Raises StoreUnavailable, OutOfTime.
        """
        match = complete_org_match(org, *conditions)
        if erased := self.erased_sks(org):
            match["sk"]["$nin"] = sorted({*erased, erased_sk(org)})
        return match


def complete_org_match(org: str, *conditions: Document) -> Document:
    """Return the match of the org's records that meet all conditions, including those of erased people.

    It is for their removal, and for rows whose order or number must stay complete.
    """
    present = [condition for condition in conditions if condition]
    return {**org_scope(org), "$and": present} if present else org_scope(org)


def erased_sk(org: str) -> str:
    """Return the sort key that replaces those of erased contacts in rows that must stay, such as numbered events."""
    return f"{org}/(erased)"


def org_scope(org: str) -> Document:
    """Return the range of sk that contains exactly the org's records.

    Every sk begins with `<org>/`, and "0" is the character after "/", so the range of "acme" excludes "acme2/...".

    Raises ValueError for an org without a name or with a "/" in it. The service checks this also at its entry.
    """
    if not org or "/" in org:
        raise ValueError("an org's name must be non-empty and contain no slash")
    return {"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}}


def org_of(sk: str) -> str:
    """Return the org of a record from its sk, for code that reads all orgs: cleanup, watches, change streams."""
    return sk.partition("/")[0]
