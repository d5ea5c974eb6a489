"""Whether a lookalike means anything: warnings about its model and its list."""

import math
from collections.abc import Iterator

from audience_service.domain.core.result_warning import ResultRule, ResultWarning
from audience_service.domain.lookalikes.model import FieldModel, LookalikeModel

MIN_AUC = 0.6
"""Below this a model hardly orders the records. Random fields exceed 0.5, because the baseline is in the training."""
MAX_AUC = 0.99
"""Above this a field probably gives the seed away."""
_CHANCE_ERRORS = 2.0
"""How many standard errors above 0.5 the AUC of a useful model is."""
_MAX_PROXIES = 3


def model_warnings(model: LookalikeModel) -> tuple[ResultWarning, ...]:
    """The warnings about a model and the list that it selected."""
    return tuple(_warnings(model))


def _warnings(model: LookalikeModel) -> Iterator[ResultWarning]:
    if not model.cutoff_score:  # members have a positive score
        yield ResultWarning(
            ResultRule.NO_MEMBERS,
            "no record is more similar to the source than to the org; name other fields, or a larger source",
        )
    if model.auc is None:
        return
    if model.auc < max(MIN_AUC, 0.5 + _CHANCE_ERRORS * _chance_error(model)):
        yield ResultWarning(
            ResultRule.NEAR_CHANCE,
            f"the AUC {model.auc:.3f} on a holdout of {model.holdout_count:,} is close to chance (0.5): the members are"
            " hardly more similar than any records; name fields that describe the source, or a larger source",
        )
    if model.auc > MAX_AUC:
        for field in _proxies(model):
            yield ResultWarning(
                ResultRule.PROXY_FIELD,
                f"the AUC is {model.auc:.3f}, and {field.path} separates the source almost alone: it probably restates"
                " how the source was selected; add it to `exclude_fields`",
                field.path,
            )


def _chance_error(model: LookalikeModel) -> float:
    """The standard error of the AUC of a random order, by the variance of the Mann-Whitney U statistic."""
    seed, baseline = model.holdout_count, model.baseline_count
    return math.sqrt((seed + baseline + 1) / (12 * seed * baseline)) if seed and baseline else 0.5


def _proxies(model: LookalikeModel) -> list[FieldModel]:
    """The used fields that separate the seed about as well as the best one."""
    used = sorted((field for field in model.fields if field.decorrelation), key=lambda field: -field.information_value)
    return [field for field in used[:_MAX_PROXIES] if field.information_value * 2 >= used[0].information_value]
