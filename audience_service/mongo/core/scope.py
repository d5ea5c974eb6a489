"""The tenant scope, which restricts every query to one org's records, without those of erased people.

Erased contacts are part of the scope, because every query has one: no stream, count or list can forget them. The
processes of a database learn them from its tombstones (mongo/erasure/tombstones.py), at most a second late.
"""

from collections.abc import Callable

from audience_service.domain.filters.filter import Document

ErasedSks = Callable[[str], frozenset[str]]
"""Returns the sort keys of an org's erased contacts."""

_erased_sources: list[ErasedSks] = []


def register_erased(source: ErasedSks) -> None:
    """Exclude the contacts of a source from every scope of this process."""
    _erased_sources.append(source)


def unregister_erased(source: ErasedSks) -> None:
    """Undo `register_erased`, when the server of the source has stopped."""
    if source in _erased_sources:  # a server may be stopped twice
        _erased_sources.remove(source)


def erased_sks(org: str) -> frozenset[str]:
    """Return the sort keys that every scope of the org excludes. Raises StoreUnavailable, OutOfTime."""
    return frozenset[str]().union(*(source(org) for source in _erased_sources))


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


def org_match(org: str, *conditions: Document) -> Document:
    """Return the match of the org's records that meet all conditions, without those of erased people."""
    match = complete_org_match(org, *conditions)
    if erased := erased_sks(org):
        match["sk"]["$nin"] = sorted({*erased, erased_sk(org)})
    return match


def complete_org_match(org: str, *conditions: Document) -> Document:
    """Return the match of the org's records that meet all conditions, including those of erased people.

    It is for their removal, and for rows whose order or number must stay complete.
    """
    present = [condition for condition in conditions if condition]
    return {**org_scope(org), "$and": present} if present else org_scope(org)
