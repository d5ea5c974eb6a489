"""Converts a model to and from its form in the audience's record, of JSON values and dates."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from audience_service.domain.lookalikes.model import CurvePoint, Factor, FieldModel, LookalikeModel

_PATH_LISTS = ("protected_fields", "source_fields")


def write_model(model: LookalikeModel) -> dict[str, Any]:
    """The stored form of a model. Factors and points are lists of values, because there may be a thousand."""
    fields = [
        {
            **{name: getattr(field, name) for name in ("path", "information_value", "decorrelation", "multi_valued")},
            "factors": [list(dataclasses.astuple(factor)) for factor in field.factors],
        }
        for field in model.fields
    ]
    plain = {each.name: getattr(model, each.name) for each in dataclasses.fields(model)}
    curve = [list(dataclasses.astuple(point)) for point in model.curve]
    lists = {name: list(plain[name]) for name in _PATH_LISTS}
    return {**plain, **lists, "fields": fields, "curve": curve}


def read_model(stored: Mapping[str, Any]) -> LookalikeModel:
    """The model of a stored form."""
    fields = tuple(
        FieldModel(**{**field, "factors": tuple(Factor(*values) for values in field["factors"])})
        for field in stored["fields"]
    )
    curve = tuple(CurvePoint(*values) for values in stored["curve"])
    # Models from before the lists existed lack them.
    names = {name: tuple(stored.get(name, ())) for name in _PATH_LISTS}
    return LookalikeModel(**{**stored, **names, "fields": fields, "curve": curve})
