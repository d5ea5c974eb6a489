"""The tenant scope, which restricts every query to one org's records."""

from audience_service.domain.filters.filter import Document


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
    """Return the match of the org's records that meet all conditions."""
    present = [condition for condition in conditions if condition]
    return {**org_scope(org), "$and": present} if present else org_scope(org)
