"""How many examples the property tests try, and which ones.

The profile `ci`, the default, tries the same examples in each run. `HYPOTHESIS_PROFILE=explore` tries ten times as
many, chosen at random. Neither limits the time of an example, since that depends on the load of the machine.
"""

import os
from typing import Any

from hypothesis import HealthCheck, settings

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
_FACTOR = 10 if PROFILE == "explore" else 1
PROPERTY_TIMEOUT = 300 * _FACTOR
"""Seconds after which a property test hangs. The longest takes 7 s on an idle machine, and 70 s on a busy one."""

settings.register_profile(
    "ci", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=100 * _FACTOR,
)


def examples(count: int, *suppressed: HealthCheck, **more: Any) -> settings:
    """The profile with another number of examples, without the health checks `suppressed`."""
    return settings(max_examples=count * _FACTOR, suppress_health_check=[HealthCheck.too_slow, *suppressed], **more)
