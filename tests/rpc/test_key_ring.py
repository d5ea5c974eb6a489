"""Keys change while calls run: no valid call is refused, and a retired key verifies nothing."""

import threading

import pytest

from audience_service.domain.core.context import Scope
from audience_service.domain.core.errors import (
    AudienceError,
    ExpiredToken,
    InvalidToken,
    MissingScope,
    TokenKeysOutdated,
    UnknownTokenKey,
)
from audience_service.rpc import auth
from audience_service.rpc.auth import Authenticator, TokenCache, TokenRules, VerifiedToken
from audience_service.rpc.key_ring import KeyRing, fetch_jwks, is_trustworthy_url
from audience_service.rpc.token_keys import KeySource, KeySourceError, TokenKey
from tests.support.http_servers import http_server
from tests.support.tokens import Clock, Issuer
from tests.support.waiting import eventually

INTERVAL = 300


class World:
    """An issuer, a ring of its keys, and an authenticator, on one clock."""

    def __init__(self) -> None:
        self.clock, self.issuer = Clock(), Issuer()
        self.issuer.publish("old")
        source = KeySource("AUDIENCE_JWT_JWKS_URL", self.issuer.jwks, ["ES256"], is_published=True)
        self.ring = KeyRing([source], INTERVAL, clock=self.clock)
        self.authenticator = Authenticator(TokenRules("crm", "audience-service"), self.ring, now=self.clock)

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and refresh as the thread would at its interval."""
        until = self.clock.now + seconds
        while self.clock.now + INTERVAL <= until:
            self.clock.now += INTERVAL
            self.ring.refresh()
        self.clock.now = until

    def call(self, token: str, scope: Scope = Scope.READ) -> str:
        metadata = [("authorization", f"Bearer {token}"), ("orgid", "acme")]
        return self.authenticator.authenticate(metadata, scope).subject


def test_no_valid_call_is_refused_while_keys_rotate() -> None:
    """The issuer publishes the new key, waits an interval, signs with it, and removes the old one after its tokens."""
    world, threads, failures = World(), [], list[AudienceError]()
    tokens = [world.issuer.sign("old", world.clock.now)]
    stop = threading.Event()

    def call_until_stopped() -> None:
        while not stop.is_set():
            for token in tokens:
                try:
                    world.call(token)
                except AudienceError as error:
                    failures.append(error)

    for _ in range(4):
        threads.append(threading.Thread(target=call_until_stopped, daemon=True))
        threads[-1].start()
    world.issuer.publish("new")
    world.pass_time(INTERVAL)
    tokens.append(world.issuer.sign("new", world.clock.now))
    del tokens[0]
    world.pass_time(3_000)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    world.issuer.published.discard("old")
    world.pass_time(INTERVAL)
    assert world.call(tokens[0]) == "ann"


def test_a_key_that_its_issuer_removed_verifies_nothing_even_from_the_cache() -> None:
    world = World()
    token = world.issuer.sign("old", world.clock.now)
    assert world.call(token) == "ann"
    world.issuer.publish("new")
    world.issuer.published.discard("old")
    world.pass_time(INTERVAL)
    with pytest.raises(UnknownTokenKey):
        world.call(token)


@pytest.mark.parametrize("failure", [OSError("away"), ValueError("not JSON"), TimeoutError("slow")], ids=repr)
def test_calls_go_on_while_the_issuer_is_away_for_ten_minutes(failure: Exception) -> None:
    world = World()
    world.issuer.fails = failure
    for _ in range(60):
        world.pass_time(10)
        assert world.call(world.issuer.sign("old", world.clock.now)) == "ann"
    world.pass_time(INTERVAL)
    with pytest.raises(TokenKeysOutdated):
        world.call(world.issuer.sign("new", world.clock.now))
    world.issuer.fails = None
    world.issuer.publish("new")
    world.ring.refresh()
    assert world.call(world.issuer.sign("new", world.clock.now)) == "ann"


@pytest.mark.parametrize("published", [b'{"keys": []}', b"{}", b"x", b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'])
def test_a_set_without_usable_keys_does_not_replace_the_last_one(published: bytes) -> None:
    content = [Issuer()]
    content[0].publish("old")
    good, clock = content[0].jwks(), Clock()
    answers = [good]
    ring = KeyRing([KeySource("url", lambda: answers[0], ["ES256"], is_published=True)], clock=clock)
    before, answers[0] = ring.keys, published
    ring.refresh()
    assert ring.keys is before


def test_an_unknown_key_id_is_temporary_until_a_recent_set_lacks_it() -> None:
    world = World()
    token = world.issuer.sign("new", world.clock.now)
    with pytest.raises(UnknownTokenKey):
        world.call(token)
    world.clock.now += 10
    with pytest.raises(TokenKeysOutdated) as caught:
        world.call(token)
    assert caught.value.retry_after_seconds
    world.issuer.publish("new")
    world.ring.refresh()
    assert world.call(token) == "ann"


@pytest.mark.slow
def test_unknown_key_ids_cause_few_reads_and_calls_do_not_wait_for_them() -> None:
    issuer, release = Issuer(), threading.Event()
    issuer.publish("old")
    slow_reads: list[str] = []

    def read() -> bytes:
        if threading.current_thread().name == "token-keys":
            slow_reads.append("read")
            release.wait(50)
        return issuer.jwks()

    ring = KeyRing([KeySource("url", read, ["ES256"], is_published=True)], 3_600, min_interval_seconds=0.05)
    ring.start()
    try:
        for _ in range(100):
            ring.request_refresh()
        eventually(lambda: bool(slow_reads))
        for _ in range(100):
            ring.request_refresh()  # returns at once, although the read has not ended
        assert len(slow_reads) == 1
        issuer.publish("new")
        release.set()
        eventually(lambda: ring.keys.has("new"))
        assert len(slow_reads) <= 3
    finally:
        release.set()
        ring.stop()


def test_one_signature_check_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    world, checks = World(), list[str]()
    signs = auth._signs

    def count(key: TokenKey, token: str, algorithm: str) -> bool:
        checks.append(token)
        return signs(key, token, algorithm)

    monkeypatch.setattr(auth, "_signs", count)
    token = world.issuer.sign("old", world.clock.now)
    assert [world.call(token) for _ in range(20)] == ["ann"] * 20
    assert len(checks) == 1
    world.ring.refresh()
    world.call(token)
    assert len(checks) == 1, "the same keys again are no change"
    world.issuer.publish("new")
    world.ring.refresh()
    world.call(token)
    assert len(checks) == 2


def test_a_remembered_token_is_still_held_to_its_end_org_and_scope() -> None:
    world = World()
    token = world.issuer.sign("old", world.clock.now)
    world.call(token)
    with pytest.raises(MissingScope):
        world.call(token, Scope.WRITE)
    with pytest.raises(AudienceError, match="no access to this org"):
        world.authenticator.authenticate([("authorization", f"Bearer {token}"), ("orgid", "globex")], Scope.READ)
    with pytest.raises(InvalidToken):
        world.call(token[:-4] + "AAAA")
    world.clock.now += 3_606
    with pytest.raises(ExpiredToken):
        world.call(token)


def test_the_cache_is_bounded_and_forgets_what_was_not_used() -> None:
    cache, verified = TokenCache(2), VerifiedToken("ann", frozenset(), False, frozenset(), 0)
    cache.add(b"a", verified)
    cache.add(b"b", verified)
    cache.get(b"a")
    cache.add(b"c", verified)
    assert [digest for digest in (b"a", b"b", b"c") if cache.get(digest)] == [b"a", b"c"]


def test_a_source_that_fails_at_the_start_prevents_it() -> None:
    issuer = Issuer(fails=OSError("away"))
    with pytest.raises(KeySourceError, match="AUDIENCE_JWT_JWKS_URL: away"):
        KeyRing([KeySource("AUDIENCE_JWT_JWKS_URL", issuer.jwks, ["ES256"])])


def test_a_set_is_fetched() -> None:
    with http_server(lambda: b'{"keys": []}') as url:
        assert fetch_jwks(url) == b'{"keys": []}'


@pytest.mark.parametrize(
    ("status", "headers", "content"),
    [
        (500, {}, b""),
        (302, {"Location": "/elsewhere"}, b""),
        (200, {}, b"x" * 600_000),
    ],
)
def test_no_other_answer_is_a_set(status: int, headers: dict[str, str], content: bytes) -> None:
    with http_server(lambda: content, status, headers) as url, pytest.raises((OSError, ValueError)):
        fetch_jwks(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://issuer/jwks", True), ("http://localhost:8080/jwks", True), ("http://issuer/jwks", False),
        ("http://localhost.issuer/jwks", False), ("file:///etc/passwd", False), ("issuer", False), ("https://[", False),
    ],
)  # fmt: skip
def test_keys_come_from_where_nobody_can_change_them(url: str, expected: bool) -> None:
    assert is_trustworthy_url(url) is expected
