"""What the tests of reach share."""

import pytest

from tests.support.fake_slices import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that deadlines and queries read. It passes only when a query takes time."""
    clock = Clock()
    for module in ("core.context", "reach.progressive_count"):
        monkeypatch.setattr(f"audience_service.domain.{module}.time", clock)
    return clock
