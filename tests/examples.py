"""How many examples the property tests try, and which ones.

The profile `ci`, the default, tries the same examples in each run. `HYPOTHESIS_PROFILE=explore` tries ten times as
many, chosen at random. Neither limits the time of an example, since that depends on the load of the machine.
"""

from typing import Any

from hypothesis import HealthCheck, settings

_EXPLORED = 10
"""How many times as many examples `explore` tries."""

settings.register_profile(
    "ci", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=100 * _EXPLORED,
)


def load_profile(name: str) -> None:
    """Choose the profile before any property test is defined. Raises InvalidArgument for a name that is none."""
    settings.load_profile(name)


def examples(count: int, *suppressed: HealthCheck, **more: Any) -> settings:
    """The profile with another number of examples, without the health checks `suppressed`."""
    factor = _EXPLORED if settings.get_current_profile_name() == "explore" else 1
    return settings(max_examples=count * factor, suppress_health_check=[HealthCheck.too_slow, *suppressed], **more)
