"""The use case ListFields: the fields that a filter on an org's records can read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import OutOfTime, UnsupportedByStore
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.filters.failing_expressions import UnevaluatedRecords
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.operators import OPERATORS, TEXT_OPERATORS
from audience_service.domain.schema.field_stats import collect
from audience_service.domain.schema.json_schema import schema_profiles
from audience_service.domain.schema.repository import SampleRepository
from audience_service.domain.schema.sample import Sample

MAX_FIELDS = 500

_ANY_TYPE = ("$eq", "$ne", "$in", "$nin", "$exists", "$type")
_ORDER = ("$gt", "$gte", "$lt", "$lte")
_DATE_OPERATORS = (*_ORDER, "$onDay", "$anniversary")
_BITS = ("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear")
_OPERATORS_BY_TYPE: dict[str, tuple[str, ...]] = {
    "string": ("$regex", *TEXT_OPERATORS, "$nearCity"),
    "date": _DATE_OPERATORS,
    "timestamp": _ORDER,
    "double": (*_ORDER, "$mod"),
    "decimal": (*_ORDER, "$mod"),
    "number": (*_ORDER, "$mod"),
    "int": (*_ORDER, "$mod", *_BITS),
    "long": (*_ORDER, "$mod", *_BITS),
    "binData": _BITS,
    "array": ("$all", "$size", "$elemMatch", "$geoWithin"),
    "object": ("$geoWithin",),
}
"""The operators that fit values of a type, in addition to _ANY_TYPE. Text is ordered only if it contains dates."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field as a caller writes it, its profile, and the operators that fit its values."""

    path: str
    profile: FieldProfile
    operators: Sequence[str]


@dataclass(frozen=True, slots=True)
class FieldList:
    """Fields by path.

    `omitted_count` counts the fields that are too deep, and those above MAX_FIELDS, the least filled ones.
    """

    fields: Sequence[Field]
    sample_size: int
    is_complete: bool
    omitted_count: int


@dataclass(frozen=True, slots=True)
class SampledFields:
    """A sample, and the profiles of its fields and of the schema's declared ones, by paths in the record."""

    sample: Sample
    profiles: Mapping[str, FieldProfile]
    too_deep_count: int


class FieldCatalog:
    """Lists the fields of a datatype from a sample of the org's records and the collection's schema."""

    def __init__(self, samples: SampleRepository, compiler: FilterCompiler) -> None:
        self._samples = samples
        self._compiler = compiler

    def list(self, ctx: RequestContext, datatype: str, prefix: str) -> FieldList:
        """The fields whose paths, as callers write them, start with the prefix. Raises DatatypeNotAllowed."""
        self._compiler.check_readable(datatype)
        sampled = self.sample_fields(ctx.org, datatype, ctx.deadline)
        found = [field for field in map(_field, sampled.profiles.values()) if field.path.startswith(prefix)]
        kept = sorted(found, key=lambda field: (-field.profile.fill_rate, field.path))[:MAX_FIELDS]
        return FieldList(
            sorted(kept, key=lambda field: field.path),
            len(sampled.sample.records),
            sampled.sample.is_complete,
            len(found) - len(kept) + sampled.too_deep_count,
        )

    def count_failing(self, org: str, failing: UnevaluatedRecords, deadline: Deadline) -> int | None:
        """The number of records that a filter cannot evaluate as written; None if the deadline passes first."""
        try:
            return self._samples.count(org, failing.datatype, failing.match, deadline)
        except OutOfTime:
            return None
        except UnsupportedByStore:
            return 0  # the store refuses the filter itself

    def sample_fields(self, org: str, datatype: str, deadline: Deadline) -> SampledFields:
        """A new sample with its profiles."""
        sample = self._samples.sample(org, datatype, deadline)
        stats = collect(sample.records)
        declared = schema_profiles(self._samples.schema(org, datatype, deadline))
        return SampledFields(sample, dict(_merge(stats.profiles, declared)), stats.too_deep_count)


def operators_for(profile: FieldProfile) -> list[str]:
    """The operators that fit a field's values, in the order of their table; none for a key with dots."""
    if "[" in profile.path:
        return []
    suitable = {name for kind in profile.types for name in _OPERATORS_BY_TYPE.get(kind, ())}
    suitable |= {*_ANY_TYPE, *(_DATE_OPERATORS if profile.date_texts else ())}
    return [name for name in (*OPERATORS, "$elemMatch") if name in suitable]


def _field(profile: FieldProfile) -> Field:
    return Field(display_path(profile.path), profile, operators_for(profile))


def _merge(
    sampled: Mapping[str, FieldProfile], declared: Mapping[str, FieldProfile]
) -> Iterator[tuple[str, FieldProfile]]:
    """The union of both. For a field in both, the sampled values come first, then the enum's others."""
    for path, profile in sampled.items():
        values = [value for value, _ in profile.top_values]
        more = [top for top in declared[path].top_values if top[0] not in values] if path in declared else []
        yield path, replace(profile, top_values=(*profile.top_values, *more))
    yield from ((path, profile) for path, profile in declared.items() if path not in sampled)
