"""Leases: the right of one process to do a piece of work, for a limited time."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """The owner of a lease, and when the lease expires unless its owner renews it."""

    owner: str
    expires_at: datetime


class LeaseLost(Exception):
    """Another process has taken the lease or written since. The caller discards its results and computes them again."""
