"""Retries compare-and-set writes that lose to another write.

read version 4 ──> write, if the version is still 4 ──> version 5
^                   │ StaleVersion: another write was first
└───── try again ───┘
"""

import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import StaleVersion

MAX_RETRY_DELAY_MILLIS = 20

_MAX_TRIES_AT_VERSION = 100
"""The most failures in a row at one version.

A majority read may lag the primary and return an old version for a while. A write that keeps failing at one version can
never succeed.
"""

Result = TypeVar("Result")


def retry_on_conflict(ctx: RequestContext, attempt: Callable[[], Result], *, once: bool = False) -> Result:
    """The result of `attempt`, which reads, changes and writes a record; tried again after each StaleVersion.

    With `once`, because the caller named the version, the first StaleVersion is raised. Raises OutOfTime.
    """
    conflict_version, tries = "", 0
    while True:
        try:
            return attempt()
        except StaleVersion as error:
            version = error.metadata["current_version"]
            conflict_version, tries = version, tries + 1 if version == conflict_version else 1
            if once or tries == _MAX_TRIES_AT_VERSION:
                raise
            ctx.deadline.check()
            time.sleep(secrets.randbelow(MAX_RETRY_DELAY_MILLIS) / 1000)
