"""The driver's errors and the deadline, at the boundary."""

import math

import pytest
from pymongo import errors as driver

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import InvalidFilter, OutOfTime, StoreUnavailable
from audience_service.mongo.failures import time_limit, translated


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (driver.AutoReconnect("x"), StoreUnavailable),
        (driver.ServerSelectionTimeoutError("x"), StoreUnavailable),
        (driver.NotPrimaryError("x"), StoreUnavailable),
        (driver.OperationFailure("x", 11600), StoreUnavailable),
        (driver.CursorNotFound("x", 43), StoreUnavailable),
        (driver.ExecutionTimeout("x", 50), OutOfTime),
        (driver.OperationFailure("x", 262), OutOfTime),
        (driver.OperationFailure("bad pattern", 51091), InvalidFilter),
        (driver.OperationFailure("no rights", 13), driver.OperationFailure),
        (ValueError("a defect"), ValueError),
    ],
)
def test_a_drivers_error_becomes_the_domains(raised: Exception, told: type[Exception]) -> None:
    with pytest.raises(told), translated():
        raise raised


def test_a_deadline_never_rounds_to_no_limit() -> None:
    assert time_limit(Deadline(None)) == {}
    assert time_limit(Deadline.after(0.0005))["maxTimeMS"] == 1
    assert time_limit(Deadline.after(99_999_999 * 3600))["maxTimeMS"] == 2**31 - 1
    assert math.isclose(time_limit(Deadline.after(2))["maxTimeMS"], 2_000, abs_tol=50)
    with pytest.raises(OutOfTime):
        time_limit(Deadline.after(0))
