"""Random filters whose members an oracle in plain Python knows: their number, and the answers that must agree with it.

    AUDIENCE_ORACLE_SIZE=5000x200 pytest -n 0 tests/contract/test_calendar_operators.py -k random

tries 200 filters on 5,000 records instead of the few of each run.
"""

import os
from collections.abc import Sequence

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters import CompiledFilter
from audience_service.mongo.store import Store

_SIZE = os.environ.get("AUDIENCE_ORACLE_SIZE", "")
TIMEOUT = 3600 if _SIZE else 300
"""Seconds after which a test hangs."""


def oracle_size(records: int, filters: int) -> tuple[int, int]:
    """The numbers of records and of filters: these, unless the environment names others."""
    if not _SIZE:
        return records, filters
    named_records, named_filters = _SIZE.split("x")
    return int(named_records), int(named_filters)


def members(store: Store, org: str, population: CompiledFilter, ids: Sequence[str]) -> set[str]:
    """The members among all records of an org: reach, stream and check agree on them, as does an explanation of one."""
    deadline = Deadline.after(TIMEOUT)
    [checked] = store.checks.evaluate(org, population.datatype, [population], ids, (), deadline).members
    assert not isinstance(checked, InvalidFilter)
    batches = store.members.stream(org, population, [], 1_000, "", deadline)
    streamed = [record["pk"] for batch in batches for record in batch]
    assert sorted(streamed) == sorted(checked)
    assert store.members.reach(org, population, deadline)[0] == len(checked)
    for record_id in ids[:1]:  # ExplainMembership evaluates as CheckMembership does, for one record
        [explained] = store.checks.evaluate(org, population.datatype, [population], [record_id], (), deadline).members
        assert explained == checked & {record_id}
    return set(checked)
