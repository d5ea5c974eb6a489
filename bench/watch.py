"""`python -m bench.watch --uri URI`: the lag of a watched audience, and the time of its scans.

A tenth of the contacts are members. At a constant rate contacts enter or exit, each once, so every write must produce
one event. The benchmark runs twice: with full scans, as on a deployment without change streams, and with a fake change
stream that the writer notifies. It also measures a full scan, and scans of some numbers of changes.
"""

import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import click
import grpc
from pydantic import SecretStr
from rich.console import Console
from rich.progress import track

from audience_service.app import App
from audience_service.cli.token import mint
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.segments.loader import SegmentLoader
from audience_service.domain.segments.model import ID_PREFIX, Segment, SegmentType
from audience_service.domain.watch.model import FULL_SCAN, ChangedKeys, ReconcileResult, ScanScope
from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.reconciler import Reconciler
from audience_service.mongo.store import Store, mongo_store
from audience_service.pb.audience.v1.membership_service_pb2 import WatchMembershipRequest
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_service.settings import Settings
from bench.processes import KEY
from bench.table import Table

ORG, AUDIENCE = "bench", "segment-watched"
MEMBER_EVERY = 10
_BATCH_SIZE = 10_000
_CHANGE_COUNTS = (10, 100, 1_000)
_CHANGES_COLUMN = ", ".join(f"{count:,}" for count in _CHANGE_COUNTS) + " changes"
_NO_DEADLINE = Deadline(None)
_WARM_UP_SECONDS = 5.0
"""Between the first message of a watch and the first write."""
_MONTH_AGO = {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}
_WHERE = {"opened": {"$gte": _MONTH_AGO}}


@dataclass
class FakeSubscription:
    """A fake change stream and its subscription. The writer notifies it without delay."""

    notify: Callable[[], None] = lambda: None
    datatype: str = "contact"
    is_streaming: bool = True
    is_complete: bool = False
    keys: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def subscribe(self, org: str, datatype: str) -> "FakeSubscription":  # noqa: ARG002
        """The only subscription."""
        return self

    def close(self) -> None:
        """Accept the call; the fake has no resources to release."""

    @property
    def has_pending(self) -> bool:
        """Whether there are changes, or the first `drain` is still due."""
        return bool(self.keys) or not self.is_complete

    def add_change(self, sk: str) -> None:
        """Record a write, and wake the scheduler."""
        with self.lock:
            self.keys.add(sk)
        self.notify()

    def drain(self) -> ChangedKeys:
        """The changes since the previous call. The first call returns an incomplete set."""
        with self.lock:
            drained = ChangedKeys(frozenset(self.keys), self.is_complete, datetime.now(UTC))
            self.keys, self.is_complete = set(), True
        return drained


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on.")
@click.option("--database", default="bench_watch", show_default=True, help="Created, and dropped at the end.")
@click.option("--contacts", default="100000,1000000", show_default=True, help="Numbers of contacts, comma-separated.")
@click.option("--rate", default=100, show_default=True, help="Changes per second.")
@click.option("--seconds", default=30, show_default=True, help="Duration of the changes.")
def main(*, uri: str, database: str, contacts: str, rate: int, seconds: int) -> None:
    """Measure the time from a write to its event, and the time of scans."""
    console = Console()
    table = Table(
        "contacts", "members", "changes by", "full scan", _CHANGES_COLUMN, "median lag", "95 %", "maximum", "events"
    )
    for size in map(int, contacts.split(",")):
        store = mongo_store(uri, database)
        try:
            for index in store.missing_indexes(("contact",)):
                store.create_index(index)
            store.database["contact"].create_index([("data.opened", 1), ("sk", 1)])
            _load(store, size, console)
            costs = _measure_scans(store, size)
            for name, subscription in (("full scans", None), ("change stream", FakeSubscription())):
                with console.status(f"{size:,} contacts, {name}"):
                    lags = _measure_lags(uri, store, subscription, size, rate, seconds)
                quantiles = statistics.quantiles(lags, n=20, method="inclusive")
                shown = [f"{lag:.2f} s" for lag in (statistics.median(lags), quantiles[-1], max(lags))]
                table.add_row(f"{size:,}", f"{size // MEMBER_EVERY:,}", name, *costs, *shown, f"{len(lags):,}")
        finally:
            store.database.client.drop_database(database)
            store.close()
    click.echo(table)


def _load(store: Store, size: int, console: Console) -> None:
    now = datetime.now(UTC)
    for start in track(range(0, size, _BATCH_SIZE), f"{size:,} contacts", console=console, transient=True):
        numbers = range(start, min(start + _BATCH_SIZE, size))
        store.insert(
            [_contact(number, _random_open_time(now, is_member=number % MEMBER_EVERY == 0)) for number in numbers]
        )
    segment = Segment(AUDIENCE, "watched", "", SegmentType.DYNAMIC, Filter("contact", _WHERE))
    store.segments.insert(ORG, segment, None, _NO_DEADLINE)


def _contact(number: int, opened: datetime) -> dict[str, Any]:
    key = f"{number * 7_919 % 10_000_019:08}"
    return {"pk": f"contact-{key}", "sk": f"{ORG}/contact/{key}", "datatype": "contact", "data": {"opened": opened}}


def _random_open_time(now: datetime, *, is_member: bool) -> datetime:
    """A random time that makes a contact a member, or not, until the end of the benchmark."""
    return now - timedelta(days=15 if is_member else 45, seconds=random.random() * 86_400)  # noqa: S311


def _measure_scans(store: Store, size: int) -> tuple[str, str]:
    """The time of a full scan, and of scans of increasing numbers of changes that produce no events."""
    lease = "bench"
    audiences = AudienceResolver(FilterCompiler(["contact"]), {ID_PREFIX: SegmentLoader(store.segments)})
    reconciler = Reconciler(store.watches, store.event_log, audiences, Notifier(), timedelta(days=7))
    store.watches.create_provisional(ORG, AUDIENCE, lease, datetime.now(UTC) + timedelta(days=1), _NO_DEADLINE)

    def run(scope: ScanScope) -> ReconcileResult:
        watch = store.watches.get(ORG, AUDIENCE, _NO_DEADLINE)
        if watch is None:
            raise SystemExit("the watch was deleted")
        return reconciler.run(watch, lease, scope)

    result = run(FULL_SCAN)
    full_scan_seconds = _median_seconds(partial(run, FULL_SCAN))
    incremental_seconds = [
        _median_seconds(partial(run, ScanScope(_random_changes(size, count), result))) for count in _CHANGE_COUNTS
    ]
    store.watches.release(ORG, AUDIENCE, lease, _NO_DEADLINE)
    return f"{full_scan_seconds:.2f} s", ", ".join(f"{seconds * 1000:.0f} ms" for seconds in incremental_seconds)


def _random_changes(size: int, count: int) -> ChangedKeys:
    keys = frozenset(_contact(number, datetime.now(UTC))["sk"] for number in random.sample(range(size), count))
    return ChangedKeys(keys, is_complete=True, complete_at=datetime.now(UTC))


def _median_seconds(run: Callable[[], object]) -> float:
    """The median seconds of five runs."""
    seconds = []
    for _ in range(5):
        started_at = time.monotonic()
        run()
        seconds.append(time.monotonic() - started_at)
    return statistics.median(seconds)


@contextmanager
def _run_server(uri: str, database: str, subscription: FakeSubscription | None) -> Iterator[str]:
    """The address of a server in this process, with the fake change stream if given, else with the store's."""
    store = mongo_store(uri, database)

    def open_change_stream(notify: Callable[[], None]) -> Any:
        if subscription is None:
            return store.open_change_stream(notify)
        subscription.notify = notify
        return subscription

    settings = Settings(listen="127.0.0.1:0", jwt_key=SecretStr(KEY), sealing_key=SecretStr(KEY), audit_log="off")
    app = App(settings, replace(store, open_change_stream=open_change_stream))
    app.start()
    try:
        yield f"127.0.0.1:{app.port}"
    finally:
        app.stop(1)


def _measure_lags(
    uri: str, store: Store, subscription: FakeSubscription | None, size: int, rate: int, seconds: int
) -> list[float]:
    """The seconds from the acknowledgement of each write to its event at the client."""
    written_at: dict[str, float] = {}
    lags: list[float] = []
    chosen = random.sample(range(size), rate * seconds)
    with ExitStack() as stack:
        address = stack.enter_context(_run_server(uri, store.database.name, subscription))
        channel = stack.enter_context(grpc.insecure_channel(address))
        token = mint(Settings(jwt_key=KEY), org=ORG, subject="bench")
        metadata = (("authorization", f"Bearer {token}"), ("orgid", ORG))
        stream = MembershipServiceStub(channel).WatchMembership(
            WatchMembershipRequest(audience_id=AUDIENCE), metadata=metadata
        )
        stack.callback(stream.cancel)
        next(stream)
        writer = threading.Thread(target=_write_changes, args=(store, subscription, chosen, rate, written_at))
        writer.start()
        for message in stream:
            arrived_at = time.monotonic()
            lags += [arrived_at - written_at.get(event.contact_id, arrived_at) for event in message.events]
            if len(lags) >= len(chosen):
                break
        writer.join()
    return lags


def _write_changes(
    store: Store, subscription: FakeSubscription | None, chosen: list[int], rate: int, written_at: dict[str, float]
) -> None:
    """Make each of the chosen contacts enter or exit, at a constant rate per second."""
    pause = threading.Event()
    pause.wait(_WARM_UP_SECONDS)
    started_at = time.monotonic()
    for position, number in enumerate(chosen):
        pause.wait(max(started_at + position / rate - time.monotonic(), 0))
        contact = _contact(number, datetime.now(UTC))
        [found] = store.database["contact"].find({"sk": contact["sk"]}, {"data.opened": 1})
        was_member = found["data"]["opened"] > datetime.now(UTC) - timedelta(days=30)
        opened = _random_open_time(datetime.now(UTC), is_member=not was_member)
        store.database["contact"].update_one({"sk": contact["sk"]}, {"$set": {"data.opened": opened}})
        written_at[contact["pk"]] = time.monotonic()
        if subscription:
            subscription.add_change(contact["sk"])


if __name__ == "__main__":
    main()
