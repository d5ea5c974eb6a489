"""Erasures while uploads, snapshots and watches run, on a real engine: nothing of the people is left."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import bson
import grpc
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given

from audience_service.domain.core.clock import now
from tests.conftest import Service, mongo_database, run_service
from tests.support.examples import examples
from tests.support.uploads import Uploader
from tests.support.waiting import eventually

ORG = "acme"
PEOPLE = 24
ALL_CONTACTS = {"datatype": "contact", "where": {}}
_PLATFORM = {"contact", "subscriber"}
_DELAYS = st.lists(st.integers(0, 60), min_size=2, max_size=4)

pytestmark = pytest.mark.usefixtures("real_uri")  # the embedded store serves one writer at a time


def address(number: int) -> str:
    return f"leaver{number:03}@example.com"


def phone(number: int) -> str:
    return f"+1415555{1000 + number}"


def selector(number: int, kind: int) -> dict[str, str]:
    return [{"contactId": f"contact-p{number:03}"}, {"email": address(number)}, {"phone": phone(number)}][kind % 3]


class Writers:
    """Threads that upload, create snapshots, edit lists and watch, until they are stopped."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.failures: list[str] = []
        self.rounds = dict.fromkeys(("upload", "snapshot", "watch"), 0)
        self._stop_event = threading.Event()
        self._audience = service.client(ORG).custom(name="uploaded").id
        self._segment = service.client(ORG).create(name="all", filter=ALL_CONTACTS).id
        self._threads = [
            threading.Thread(target=self._loop, args=(name, step))
            for name, step in (("upload", self._upload), ("snapshot", self._snapshot), ("watch", self._watch))
        ]

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        try:
            eventually(lambda: all(self.rounds.values()) or bool(self.failures))
        except AssertionError:
            self.__exit__()  # or the threads would keep the process alive
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_event.set()
        for thread in self._threads:
            thread.join(60)

    def _loop(self, name: str, step: Callable[[int], None]) -> None:
        while not self._stop_event.is_set():
            try:
                step(self.rounds[name])
            except grpc.RpcError as error:
                # An upload that holds the person is sent again from its beginning, as documented.
                if error.code() is not grpc.StatusCode.ABORTED:
                    self.failures.append(f"{name}: {error!r}")
                    return
                continue
            except Exception as error:  # the test reports it
                self.failures.append(f"{name}: {error!r}")
                return
            self.rounds[name] += 1

    def _upload(self, number: int) -> None:
        rows = [f"{address(person)},{phone(person)},{address(person)}" for person in range(PEOPLE)]
        rows += [f"unknown{person}@example.com,,{address(person)}" for person in range(PEOPLE)]  # a note quotes them
        data = "\n".join(["email,phone,note", *rows, ""]).encode()
        Uploader(self.service.client(ORG)).upload(self._audience, data, uploadId=f"u{number}")

    def _snapshot(self, number: int) -> None:
        self.service.client(ORG).snapshot(filter=ALL_CONTACTS, name=f"s{number}")

    def _watch(self, number: int) -> None:
        contacts = self.service.store.database["contact"]
        contacts.update_many({"sk": {"$regex": f"^{ORG}/"}}, {"$set": {"data.round": number}})
        watch = self.service.client(ORG).call("WatchMembership", {"audienceId": self._segment}, timeout=40)
        try:
            next(iter(watch))
        finally:
            watch.cancel()


def traces(service: Service, people: list[int]) -> list[str]:
    """The documents of the service that still contain an id, address, number or bare hash of these people."""
    texts = [text for number in people for text in (address(number), phone(number), phone(number)[1:])]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    numbers = [rf"{phone(number)[2:]}" for number in people]
    ids = [f"contact[-/]p{number:03}" for number in people]
    addresses = [re.escape(address(number)) for number in people]
    pattern = re.compile("|".join([*ids, *addresses, *numbers, *digests]), re.I)
    binary = [bytes.fromhex(digest)[:16] for digest in digests]
    database = service.store.database
    return [
        f"{name}: {document}"
        for name in database.list_collection_names()
        if name not in _PLATFORM
        for document in database[name].find()
        if pattern.search(repr(document)) or any(digest in bson.encode(document) for digest in binary)
    ]


@pytest.mark.slow
@given(delays=_DELAYS, first=st.integers(0, PEOPLE - 1), kind=st.integers(0, 2))
@examples(2, HealthCheck.function_scoped_fixture)
def test_nothing_of_erased_people_is_left_by_running_writers(
    tmp_path: Path, delays: list[int], first: int, kind: int
) -> None:
    """After the writers have ended and the next sweep, in no collection; audited, and not imported again."""
    audit = tmp_path / f"audit-{time.monotonic_ns()}"
    people = [(first + number) % PEOPLE for number in range(len(delays))]
    with mongo_database() as store:
        for service in run_service("mongodb", store, audit_log=str(audit), max_watch_streams=256, org_share=1.0):
            client = service.client(ORG)
            records = [
                {"id": f"p{n:03}", "data": {"email": address(n), "phone": phone(n), "country": "US"}}
                for n in range(PEOPLE)
            ]
            service.insert(ORG, records)
            with Writers(service) as writers:
                for number, delay in zip(people, delays, strict=True):
                    time.sleep(delay / 1000)  # a moment of the writers' work, drawn at random
                    report = client.call("EraseContact", selector(number, kind + number), timeout=60)
                    assert report.contact_count == 1
                    assert f"contact-p{number:03}" not in client.members(filter=ALL_CONTACTS)
            assert not writers.failures
            store.database["audience_erasure"].update_many({}, {"$set": {"lease_until": now()}})
            service.app._erasure.sweep(now())
            assert traces(service, people) == []
            assert len(client.members(filter=ALL_CONTACTS)) == PEOPLE - len(people)
            again = client.custom(name="again").id
            data = "".join(["email\n", *(f"{address(number)}\n" for number in people)]).encode()
            upload = Uploader(client).upload(again, data)
            assert dict(upload.rejected_row_counts) == {"erased": len(people)}
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    erasures = [line for line in lines if line["rpc"].endswith("/EraseContact")]
    assert [(line["code"], line["row_count"]) for line in erasures] == [("OK", 1)] * len(people)
