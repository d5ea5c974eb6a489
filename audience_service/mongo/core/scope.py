"""The tenant scope: what keeps an org's queries within the org."""

from audience_service.domain.filters.filter import Document


def org_scope(org: str) -> Document:
    """The range of sk that holds all of the org's records and no other's.

    Every sk begins with `<org>/`, and "0" is the character after "/": "acme" does not reach "acme2/...". An org's name
    holds no "/" (domain rule, checked where the call comes in and again here).
    """
    if not org or "/" in org:
        raise ValueError("an org's name is not empty and holds no slash")
    return {"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}}


def org_of(sk: str) -> str:
    """The org of the record with this sk, for what goes through those of all orgs: sweeps, watches, changes."""
    return sk.partition("/")[0]


def tenant_match(org: str, *conditions: Document) -> Document:
    """What matches the conditions among the org's records."""
    present = [condition for condition in conditions if condition]
    return {**org_scope(org), "$and": present} if present else org_scope(org)
