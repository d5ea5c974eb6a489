"""The type of custom audience that is a lookalike."""

from audience_service.domain.custom_audiences.audience_types import TypeDescription, TypeField
from audience_service.domain.custom_audiences.model import CustomType
from audience_service.domain.lookalikes.features import MAX_FIELDS
from audience_service.domain.lookalikes.spec import MAX_SHARE
from audience_service.domain.lookalikes.training import MIN_SEED_SIZE
from audience_service.domain.lookalikes.weights import MAX_FACTORS

LOOKALIKE = TypeDescription(
    CustomType.LOOKALIKE,
    "Lookalike",
    "Those of the org who are most like the members of another audience, by a model that can be looked into.",
    (
        TypeField("source_audience_id", "the audience whose members they are to be like", required=True),
        TypeField("share", "how many there are to be, as a part of the org's records; this or count"),
        TypeField("count", "how many there are to be"),
        TypeField("countries", "where they may be, as codes of two letters; default anywhere"),
        TypeField("include_source", "whether members of the source may be among them; default not"),
        TypeField("fields", "the paths that likeness is told by; default those that the docs list"),
        TypeField("exclude_fields", "paths that are left out of those"),
    ),
    (
        "Members are those with the highest scores above 0; GetLookalikeModel shows what they are made of.",
        "A fifth of the source's members is held out of the model, and recall and AUC are of them.",
        "Protected fields, and those that the source's filter asks about, are used only where `fields` names them.",
        "Modelled when it is made and whenever it is refreshed; between, the list stays as it is.",
    ),
    {
        "min_seed_size": str(MIN_SEED_SIZE),
        "max_share": str(MAX_SHARE),
        "max_fields": str(MAX_FIELDS),
        "max_factors_per_field": str(MAX_FACTORS),
    },
)
