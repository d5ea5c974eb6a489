"""The lookalike type of custom audiences."""

from audience_service.domain.custom_audiences.audience_types import TypeDescription, TypeField
from audience_service.domain.custom_audiences.model import CustomType
from audience_service.domain.lookalikes.features import MAX_FIELDS
from audience_service.domain.lookalikes.spec import MAX_SHARE
from audience_service.domain.lookalikes.training import MIN_SEED_SIZE
from audience_service.domain.lookalikes.weights import MAX_FACTORS

LOOKALIKE = TypeDescription(
    CustomType.LOOKALIKE,
    "Lookalike",
    "The records of the org that are most similar to the members of another audience, by a model that you can inspect.",
    (
        TypeField("source_audience_id", "the audience whose members are the seed", required=True),
        TypeField("share", f"the number of members as a share of the records, up to {MAX_SHARE}; exclusive with count"),
        TypeField("count", "the number of members; exclusive with share"),
        TypeField("countries", "two-letter country codes (ISO 3166-1) that members must have; default all countries"),
        TypeField("include_source", "whether members of the source may be members; default false"),
        TypeField("fields", "the paths of the features; the docs list the default"),
        TypeField("exclude_fields", "paths to leave out of the features"),
    ),
    (
        "The members are the records with the highest scores above 0. GetLookalikeModel returns the weights.",
        "Training leaves out a fifth of the source's members, the holdout. It is used to measure recall and AUC.",
        "Protected fields, and those that the source's filter tests, are used only if `fields` names them.",
        "The model and the list change only at creation and at a refresh.",
    ),
    {
        "min_seed_size": str(MIN_SEED_SIZE),
        "max_share": str(MAX_SHARE),
        "max_fields": str(MAX_FIELDS),
        "max_factors_per_field": str(MAX_FACTORS),
    },
)
