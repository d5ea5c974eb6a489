"""The profile of one field in a sample of an org's records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldProfile:
    """One field of one datatype in a sample. Shares are of the sampled records, 0 to 1.

    - `path`: the field's path in the record, like `data.country`.
    - `types`: BSON types as $type names them, with the share of records that have a value of each. A list counts as
      `array` and as the types of its elements.
    - `fill_rate`: the share of records with a value other than null or an empty list.
    - `top_values`: the most frequent values with their shares, in descending order. Empty if values are personal or
      hardly repeat.
    - `date_texts`: the share of records whose value is text that spells an ISO date.
    - `unmatched_dates`: the share whose value is such text in a form that comparisons of dates never match: with an
      offset other than UTC, or without seconds.
    - `timed_dates`: the share whose value is a date, or text that spells one, at another time of day than midnight UTC.
    - `number_texts`: the share whose value is text that spells a number.
    - `empty_values`: the share whose value is null, an empty list or blank text.
    - `other_texts`: the share whose value is text that spells no ISO date.
    - `other_dates`: the share whose value is text that spells a day in another form than ISO 8601: `11/20/2026`.
    - `date_shape`: the most frequent form of such text, with 0 for digits and a for letters: `00/00/0000`.
    - `yearless_days`: the share whose value is text that spells a day without a year: `--02-27`.
    """

    path: str
    types: Mapping[str, float]
    fill_rate: float
    top_values: tuple[tuple[Any, float], ...] = ()
    date_texts: float = 0.0
    unmatched_dates: float = 0.0
    timed_dates: float = 0.0
    number_texts: float = 0.0
    other_texts: float = 0.0
    empty_values: float = 0.0
    yearless_days: float = 0.0
    other_dates: float = 0.0
    date_shape: str = ""
