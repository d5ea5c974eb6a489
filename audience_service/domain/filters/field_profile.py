"""What a sample of an org's records says about one field."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldProfile:
    """One field of one datatype, as a sample of the org's records has it. Shares are of the sampled records, 0 to 1.

    `path` is the field's in the record, `data.country`. `types` are BSON types by the names that $type takes, with the
    share of records that have a value of each; for a list that is `array` and the types of its elements besides, as
    $type sees it. `filled` is the share that has the field with anything but null or an empty list. `top_values` are
    the values seen most often, with their shares, the most frequent first; none where values hardly repeat or are
    personal.
    `date_texts` is the share whose value is text that spells an ISO date.
    """

    path: str
    types: Mapping[str, float]
    fill_rate: float
    top_values: tuple[tuple[Any, float], ...] = ()
    date_texts: float = 0.0
