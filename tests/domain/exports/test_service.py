"""Batches of the platform's size, and counts that do not depend on interruptions."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.selection_resolver import SelectionResolver
from audience_service.domain.core.context import Caller, Deadline, RequestContext, Scope
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.record import Record
from audience_service.domain.exports import batches as export_batches
from audience_service.domain.exports import service as exports_module
from audience_service.domain.exports.batches import ExportPart
from audience_service.domain.exports.service import ExportRequest, Exports
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.identifiers import choose_rules
from audience_service.domain.snapshots.reader import SnapshotReader
from tests.support.examples import examples
from tests.support.export_log import NoExportLog

ALL_CONTACTS = AudienceSelector(filter=Filter("contact", {}))


class FakeMembers:
    """Streams the given records, and records whether its stream was closed."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.closed = False

    def stream(self, *arguments: Any) -> Generator[list[Record], None, None]:
        size = arguments[3]
        try:
            for start in range(0, len(self.records), size):
                yield list(self.records[start : start + size])
        finally:
            self.closed = True

    def exclusions(self, *arguments: Any) -> list[int]:
        return [0 for _ in arguments[2]]


def contacts(count: int) -> list[Record]:
    """Contacts with emails, every tenth without a valid one, every fourth with the one before it."""
    return [
        {"sk": f"acme/contact/{n:06}", "data": {"email": f"{n - (n % 4 == 1)}@example.com" if n % 10 else "none"}}
        for n in range(count)
    ]


def make_context(until: float | None = None) -> RequestContext:
    return RequestContext(Caller("ann", "acme", frozenset(Scope)), Deadline(until))


def exports(members: Any) -> Exports:
    audiences = AudienceResolver(FilterCompiler(["contact"]), {})
    ready = SnapshotReader(None, members)  # type: ignore[arg-type]
    return Exports(members, SelectionResolver(audiences, members, ready), ready, TokenCodec(b"key"), NoExportLog())


def parts(records: Sequence[Record], **request: Any) -> list[ExportPart]:
    arguments = {"platform": "linkedin", "fields": ["email"], **request}
    return list(exports(FakeMembers(records)).stream(make_context(), ExportRequest(ALL_CONTACTS, **arguments)))


@pytest.mark.slow
def test_batches_are_of_the_platforms_size_and_say_when_they_end() -> None:
    *sent, last = parts(contacts(14_000))
    assert [(part.batch, len(part.rows), part.ends_batch) for part in sent] == [
        (0, 5_000, True),
        (1, 5_000, True),
        (2, 2_600, True),
    ]
    assert last.readiness is not None
    assert (last.readiness.members, last.readiness.valid, last.rows) == (14_000, 12_600, ())


def test_a_batch_that_fits_no_message_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{**record, "data": {"email": f"{n}@example.com"}} for n, record in enumerate(contacts(12_000))]
    monkeypatch.setattr(export_batches, "MAX_PART_BYTES", 500_000)
    *sent, _ = parts(records, platform="meta", fields=())
    assert [(part.batch, part.ends_batch) for part in sent] == [(0, False), (0, False), (0, True), (1, True)]
    assert [sum(len(part.rows) for part in sent if part.batch == batch) for batch in (0, 1)] == [10_000, 2_000]
    assert max(sum(len(value) for row in part.rows for value in row) for part in sent) <= 500_000


@examples(50)
@given(count=st.integers(0, 60), size=st.integers(1, 25), in_part=st.integers(1, 12))
def test_an_interrupted_stream_resumes_identically(count: int, size: int, in_part: int) -> None:
    email_alone = choose_rules("linkedin", "", {}, ["email"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exports_module, "choose_rules", lambda *_, **__: replace(email_alone, batch_size=size))
        patch.setattr(export_batches, "MAX_PART_BYTES", 80 * in_part)
        all_parts = parts(contacts(count))
        for number, part in enumerate(all_parts, 1):
            again = _without_cursors(parts(contacts(count), cursor=part.cursor))
            assert again == _without_cursors(all_parts[min(number, len(all_parts) - 1) :])


def _without_cursors(sent: Sequence[ExportPart]) -> list[ExportPart]:
    """The parts, without what differs between two seals of one position."""
    return [replace(part, cursor="") for part in sent]


def test_counts_report_losses_by_step() -> None:
    *_, last = parts(contacts(1_000))
    assert last.readiness is not None
    assert last.readiness.invalid == {"email": 100}
    assert (last.readiness.consented, last.readiness.with_identifiers, last.readiness.valid) == (1_000, 1_000, 900)
    emails = {record["data"]["email"] for record in contacts(1_000)} - {"none"}
    assert last.readiness.distinct == len(emails)
    assert (last.readiness.min_list_size, last.readiness.minimum_met) == (300, True)


@pytest.mark.slow
def test_stopping_early_closes_the_database_cursor() -> None:
    members = FakeMembers(contacts(20_000))
    stream = exports(members).stream(make_context(), ExportRequest(ALL_CONTACTS, "linkedin"))
    next(stream)
    stream.close()
    assert members.closed


def test_an_expired_deadline_ends_a_silent_stream() -> None:
    records: list[Record] = [{"sk": "acme/contact/1", "data": {}}]
    with pytest.raises(OutOfTime):
        list(exports(FakeMembers(records)).stream(make_context(until=0), ExportRequest(ALL_CONTACTS, "meta")))
