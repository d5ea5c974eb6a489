"""What holds for any filter and any records, on every store."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import structlog
from hypothesis import given

from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import UnsupportedByStore
from audience_service.domain.filters import CompiledFilter, Filter, FilterCompiler
from audience_service.mongo.embedded.store import embedded_store
from audience_service.rpc import call_observer
from tests.conftest import STORES, Service, mongo_database, run_service
from tests.support.examples import examples
from tests.support.fuzzer import Fuzzer, filter_texts
from tests.support.strategies import filters, record

COMPILER = FilterCompiler(["contact"])
ORG, OTHER = "prop7", "prop72"
RECORDS = 80


@dataclass
class Members:
    """The members of filters among the org's random records."""

    repository: MemberRepository
    active_ids: set[str]

    def of(self, where: dict[str, Any]) -> set[str]:
        """Their sks; as many as are counted. Raises UnsupportedByStore."""
        population = COMPILER.compile(Filter("contact", where))
        streamed = self._streamed(population)
        assert len(set(streamed)) == len(streamed)
        assert self.repository.count(ORG, population, Deadline.after(20)) == len(streamed)
        return set(streamed)

    def _streamed(self, population: CompiledFilter) -> list[str]:
        batches = self.repository.stream(ORG, population, (), 1_000, "", Deadline.after(20))
        return [found["sk"] for batch in batches for found in batch]


@pytest.fixture(scope="module")
def members(service: Service) -> Iterator[Members]:
    """Members of the org, next to an org with a longer name and records of the same ids, and others."""
    rng = random.Random(7)
    for org, more in ((ORG, 0), (OTHER, 20)):
        service.insert(org, [{"id": f"{number:03}", **record(rng)} for number in range(RECORDS + more)])
    stored = service.store.database["contact"].find({"sk": {"$regex": f"^{ORG}/"}})
    inactive_states = ("archived", "deleted")
    yield Members(service.store.members, {found["sk"] for found in stored if found.get("state") not in inactive_states})
    service.store.database["contact"].delete_many({"sk": {"$regex": f"^{ORG}2?/"}})


@examples(250)
@given(where=filters)
def test_a_filter_and_its_negation_partition_the_active_records(
    service: Service, members: Members, where: dict[str, Any]
) -> None:
    try:
        met, unmet = members.of(where), members.of({"$nor": [where]})
    except UnsupportedByStore:
        assert service.kind == "embedded"
        return
    assert met | unmet == members.active_ids, "which are the org's alone"
    assert not met & unmet


FUZZED = 20_000
ANSWERS = ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED")


@pytest.fixture(params=STORES)
def bare_service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A server on its own store: the embedded store scans every record that other tests left."""
    if request.param == "embedded":
        yield from run_service("embedded", embedded_store([], ("contact", "lead", "customer")))
        return
    with mongo_database() as store:
        yield from run_service("mongodb", store)


@pytest.mark.slow
@pytest.mark.timeout(240)  # 20,000 calls
def test_no_input_is_answered_with_internal(bare_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service = bare_service
    monkeypatch.setattr(call_observer, "_log", structlog.wrap_logger(structlog.ReturnLogger(), processors=[]))
    org = f"fuzzed{next(service.names)}"
    service.insert(
        org, [{"id": "fuzzed", "data": {"country": "US", "tags": ["a"], "score": 5, "at": "2026-03-25T00:00:00.000Z"}}]
    )
    metadata = service.client(org).metadata
    inputs = list(Fuzzer(filter_texts(), random.Random(20260325)).requests(FUZZED // len(STORES)))

    calls = {(kind, path): getattr(service.channel, kind)(f"/audience.v1.{path}") for kind, path, _ in inputs}

    def answered(kind: str, path: str, raw: bytes) -> tuple[str, str, bytes]:
        try:
            answer = calls[kind, path](raw, metadata=metadata, timeout=40)
            list(answer if kind == "unary_stream" else ())
        except grpc.RpcError as error:
            return error.code().name, f"{path}: {error.details()}", raw
        return "OK", path, raw

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda one: answered(*one), inputs))
    codes = Counter(code for code, *_ in answers)
    assert not [answer for answer in answers if answer[0] not in ANSWERS][:5]
    assert min(codes["OK"], codes["INVALID_ARGUMENT"]) > len(inputs) // 50, "both are met often"
    assert service.store.database["segment"].count_documents({"sk": {"$regex": f"^{org}/"}}) == 0
