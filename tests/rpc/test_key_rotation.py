"""Keys rotate, and their issuer is away, under a server that answers calls and watches."""

import threading
import time
from collections.abc import Iterator, Sequence

import grpc
import pytest

from audience_service.mongo.embedded.store import embedded_store
from audience_service.rpc.key_ring import KeyRing
from audience_service.rpc.token_keys import KeySource
from audience_service.wiring import server as wiring
from tests.conftest import Service, run_service
from tests.contract.test_watch import VIPS, watching
from tests.support.client import Client, Refusal
from tests.support.http_servers import http_server
from tests.support.tokens import Clock, Issuer
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
_SCOPES = "audiences.read audiences.write audiences.export"


def client_of(service: Service, token: str) -> Client:
    """A client with this token."""
    return Client(service.channel, (("authorization", f"Bearer {token}"), ("orgid", "acme")))


class Load:
    """Callers that call until the test ends, each call with the newest token."""

    def __init__(self, service: Service, token: str) -> None:
        self.token = token
        self.count = 0
        self.failures: list[grpc.RpcError] = []
        self._service = service
        self._stop_event = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(4)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_event.set()
        for thread in self._threads:
            thread.join()

    def wait_for_calls(self) -> None:
        """Wait for calls that begin after now."""
        enough = self.count + 40
        eventually(lambda: self.count >= enough)

    def _call(self) -> None:
        while not self._stop_event.is_set():
            try:
                client_of(self._service, self.token).call("ListSegments")
            except grpc.RpcError as error:
                self.failures.append(error)
            self.count += 1


def test_rotating_keys_and_an_absent_issuer_refuse_no_call_and_end_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP. The clock of the refreshes is the test's; the tokens are of the real time."""
    issuer, clock, rings = Issuer(), Clock(), list[KeyRing]()
    issuer.publish("old")

    def make_ring(sources: Sequence[KeySource], refresh_seconds: float) -> KeyRing:
        rings.append(KeyRing(sources, refresh_seconds, clock=clock))
        return rings[0]

    def pass_time(seconds: float) -> None:
        for _ in range(int(seconds // 300)):
            clock.now += 300
            rings[0].refresh()

    def sign(kid: str) -> str:
        return issuer.sign(kid, time.time(), scope=_SCOPES)

    monkeypatch.setattr(wiring, "KeyRing", make_ring)
    store = embedded_store([], ("contact",))
    with http_server(issuer.jwks) as url:
        settings = {"jwt_key": None, "jwt_jwks_url": url, "jwt_algorithms": ("ES256",)}
        for service in run_service("embedded", store, **settings):
            old = sign("old")
            client = client_of(service, old)
            segment = client.create(name="vips", filter=VIPS)
            numbers = iter(range(100))

            def enter(service: Service = service, numbers: Iterator[int] = numbers) -> tuple[str, str, str]:
                [contact_id] = service.insert("acme", [{"id": str(next(numbers)), "data": {"tags": ["vip"]}}])
                return "entered", contact_id, "data"

            with Load(service, old) as load, watching(client, segment.id) as watcher:
                issuer.publish("new")
                pass_time(300)
                load.token = sign("new")
                load.wait_for_calls()
                assert [enter()] == watcher.events(1), "the watch outlasts the new key"

                issuer.fails, reads = OSError("away"), issuer.reads
                pass_time(600)
                assert issuer.reads >= reads + 2
                load.wait_for_calls()
                assert [enter()] == watcher.events(1), "and ten minutes without the issuer"
                client_of(service, sign("old")).call("ListSegments")

                issuer.fails = None
                issuer.published.discard("old")
                pass_time(300)
                load.wait_for_calls()
                assert [enter()] == watcher.events(1), "and the end of the key that it began with"
                with pytest.raises(grpc.RpcError) as caught:
                    client.call("ListSegments")
                assert Refusal(caught.value).info.reason == "UNKNOWN_TOKEN_KEY"
                token = watcher.token
            missed = enter()
            with watching(client_of(service, sign("new")), segment.id, token) as resumed:
                assert resumed.events(1) == [missed], "a watch resumes under the new key"
            assert load.failures == []
