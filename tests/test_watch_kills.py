"""kill -9 of servers during a reconciliation: watchers receive every event exactly once."""

import threading
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import URI, Service, envelope, mongo_database, run_service
from tests.contract.test_watch import VIPS, watching
from tests.test_kills import ORG, CommandProxy, kill, victim

pytestmark = pytest.mark.slow

INSERTED = b"insert\x00\x0f\x00\x00\x00audience_event"
APPLIED = b"update\x00\x16\x00\x00\x00audience_member_state"
NOTED = b"$max\x00\x25\x00\x00\x00\x10seq"


@pytest.mark.parametrize("command", [INSERTED, APPLIED, NOTED], ids=["inserted", "applied", "noted"])
def test_another_server_sends_the_events_of_a_killed_server_once(real_service: Service, command: bytes) -> None:
    at = urlsplit(URI)
    with mongo_database() as store:
        proxy = CommandProxy(at.hostname or "127.0.0.1", at.port or 27017, command)
        store.database["contact"].insert_many([envelope(ORG, {"id": f"{n:02}"}) for n in range(10)])
        with victim(f"mongodb://127.0.0.1:{proxy.port}/", store.database.name) as (client, process):
            segment = client.create(name="vips", filter=VIPS)
            with watching(client, segment.id) as watcher:
                store.database["contact"].update_many({}, {"$set": {"data.tags": "vip"}})
                assert proxy.sent.wait(40)
                kill(process)
                token = watcher.token
        for service in run_service("mongodb", store):
            with watching(service.client(ORG), segment.id, token) as watcher:
                expected = [("entered", f"contact-{n:02}", "data") for n in range(10)]
                assert watcher.events(10) == expected
                store.database["contact"].update_one({"pk": "contact-03"}, {"$set": {"data.tags": "lead"}})
                assert watcher.events(1) == [("exited", "contact-03", "data")]
                assert watcher.has_no_events()


def test_killing_two_servers_in_turn_loses_no_event(real_service: Service) -> None:
    with mongo_database() as store:
        contacts, database = store.database["contact"], store.database.name
        contacts.insert_many([envelope(ORG, {"id": f"{n:02}"}) for n in range(40)])
        done = threading.Event()
        writer = threading.Thread(target=come_and_go, args=(contacts, done))
        inside: set[str] = set()
        token = ""
        with victim(URI, database) as (client, _):
            segment = client.create(name="vips", filter=VIPS)
            with watching(client, segment.id) as watcher:
                token = watcher.token
        writer.start()
        try:
            for _ in range(3):
                with victim(URI, database) as (client, process), victim(URI, database) as (other, second):
                    for chosen, doomed in ((client, process), (other, second)):
                        with watching(chosen, segment.id, token) as watcher:
                            apply(watcher.events(60), inside)
                            apply(watcher.unread_events(), inside)  # what came in the same message
                            token = watcher.token
                            kill(doomed)
        finally:
            done.set()
            writer.join()
        members = {row["pk"] for row in contacts.find({"data.tags": "vip"})}
        for service in run_service("mongodb", store):
            with watching(service.client(ORG), segment.id, token) as watcher:
                watcher.has_no_events()
                apply(watcher.unread_events(), inside)
        assert inside == members


def apply(events: list[tuple[str, str, str]], inside: set[str]) -> None:
    """Apply events to the set of members. Each event must change the set."""
    for change, contact, _ in events:
        assert (contact in inside) == (change == "exited"), "an event is lost or doubled"
        (inside.add if change == "entered" else inside.discard)(contact)


def come_and_go(contacts: Any, done: threading.Event) -> None:
    """Let contacts enter and exit, one after the other."""
    number = 0
    while not done.is_set():
        tags = "vip" if number // 40 % 2 == 0 else "lead"
        contacts.update_one({"pk": f"contact-{number * 7 % 40:02}"}, {"$set": {"data.tags": tags}})
        number += 1
        done.wait(0.01)
