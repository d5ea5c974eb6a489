"""Interests: the IAB's."""

from audience_service.domain.targeting.normalisation import normalise

from .packages import IAB, read_json
from .rows import Row


def interests() -> list[Row]:
    """The IAB Audience Taxonomy 1.1 in its own order.

    Parents go by the names of the tiers: twenty of the Parent IDs contradict them, and one is the node's own.
    """
    [version] = read_json(IAB, "package/examples/get-iab-taxonomies/data/iab-taxonomies.json")["Audience Taxonomies"][
        "Audience Taxonomies/Audience Taxonomy 1.1.tsv"
    ].values()
    head, *records = version["records"]
    number, first = head.index("Unique ID"), head.index("Tier 1")
    by_tiers: dict[tuple[str, ...], str] = {}
    rows = []
    for record in records:
        # A star before or behind a name is a note's.
        cells = [cell.strip() for cell in record[first : first + 6]]
        tiers = tuple(cell.rstrip("* ") for cell in cells if cell and not cell.startswith("*"))
        node_id = f"interest-{record[number]}"
        above = (by_tiers[tiers[:depth]] for depth in range(len(tiers) - 1, 0, -1) if tiers[:depth] in by_tiers)
        row = Row(
            node_id, tiers[-1], normalise(tiers[0]).replace(" ", "_"), "IAB Audience Taxonomy 1.1", next(above, "")
        )
        row.names = {row.name}
        by_tiers.setdefault(tiers, node_id)
        rows.append(row)
    return rows
