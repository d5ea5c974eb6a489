"""Nodes as they are written."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Row:
    """A node as it is written, and every name it is found by."""

    id: str
    name: str
    kind: str
    source: str
    parent: str = ""
    country: str = ""
    population: int = 0
    latitude: float | None = None
    longitude: float | None = None
    platform: str = ""
    value: str = ""
    localized: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    by_code: set[str] = field(default_factory=set)
    """Those of its names that a source gives to its very code."""

    def line(self, numbers: dict[str, int]) -> str:
        """The row of the table; domain/targeting/taxonomy.py reads it."""
        place = ["" if at is None else str(at) for at in (self.latitude, self.longitude)]
        parent = str(numbers[self.parent]) if self.parent else ""
        cells = [self.id, parent, self.kind, self.country, self.name, self.source, str(self.population or ""), *place]
        cells += [self.platform, self.value, *(f"{code}:{name}" for code, name in sorted(self.localized.items()))]
        if any("\t" in cell or "\n" in cell for cell in cells):
            raise SystemExit(f"{self.id} holds a tab or a line end")
        return "\t".join(cells)
