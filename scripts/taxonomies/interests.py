"""The interests of the IAB Audience Taxonomy."""

from audience_service.domain.core.normalisation import normalise

from .packages import IAB, read_json
from .rows import Row


def interests() -> list[Row]:
    """The rows of the IAB Audience Taxonomy 1.1, in its own order.

    The tier names define the parents. Twenty Parent IDs contradict the tiers, and one is the node's own id.
    """
    [version] = read_json(IAB, "package/examples/get-iab-taxonomies/data/iab-taxonomies.json")["Audience Taxonomies"][
        "Audience Taxonomies/Audience Taxonomy 1.1.tsv"
    ].values()
    head, *records = version["records"]
    number, first = head.index("Unique ID"), head.index("Tier 1")
    by_tiers: dict[tuple[str, ...], str] = {}
    rows = []
    for record in records:
        # A star before or after a name refers to a note.
        cells = [cell.strip() for cell in record[first : first + 6]]
        tiers = tuple(cell.rstrip("* ") for cell in cells if cell and not cell.startswith("*"))
        node_id = f"interest-{record[number]}"
        parents = (by_tiers[tiers[:depth]] for depth in range(len(tiers) - 1, 0, -1) if tiers[:depth] in by_tiers)
        row = Row(
            node_id, tiers[-1], normalise(tiers[0]).replace(" ", "_"), "IAB Audience Taxonomy 1.1", next(parents, "")
        )
        row.names = {row.name}
        by_tiers.setdefault(tiers, node_id)
        rows.append(row)
    return rows
