"""The rows of the taxonomy files."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Row:
    """A node of a taxonomy, with all names for the search."""

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
    """The names that a source assigns to exactly this node's code."""

    def line(self, numbers: dict[str, int]) -> str:
        """The line of the file, which domain/targeting/taxonomy.py reads. Raises SystemExit for tabs and line ends."""
        location = ["" if degrees is None else str(degrees) for degrees in (self.latitude, self.longitude)]
        parent = str(numbers[self.parent]) if self.parent else ""
        cells = [
            self.id,
            parent,
            self.kind,
            self.country,
            self.name,
            self.source,
            str(self.population or ""),
            *location,
        ]
        cells += [self.platform, self.value, *(f"{code}:{name}" for code, name in sorted(self.localized.items()))]
        if any("\t" in cell or "\n" in cell for cell in cells):
            raise SystemExit(f"{self.id} contains a tab or a line end")
        return "\t".join(cells)
