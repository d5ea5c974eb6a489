"""Sealing keys change while processes restart one by one, and no page, cursor or watch is lost."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from pydantic import SecretStr

from audience_service.mongo.store import Store
from tests.conftest import Service, run_service
from tests.support.client import Client, Refusal

OLD, NEW = "the old sealing key of thirty-two bytes", "the new sealing key of thirty-two bytes"


@contextmanager
def process(store: Store, *secrets: str) -> Iterator[Service]:
    """A server process with these sealing keys."""
    running = run_service("embedded", store, sealing_key=SecretStr(",".join(secrets)))
    try:
        yield next(running)
    finally:
        next(running, None)


def resume(client: Client, audience_id: str, token: str) -> str:
    """The resume token of the first message after a token."""
    call = client.call("WatchMembership", {"audienceId": audience_id, "resumeToken": token})
    answer: str = next(iter(call)).resume_token
    call.cancel()
    return answer


@pytest.mark.slow
def test_no_token_is_refused_in_any_step_of_a_rotation(
    store: Store, refused: Callable[..., Refusal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of docs/how-to/rotate-keys.md: old and new processes open each other's tokens."""
    monkeypatch.setattr(Store, "close", lambda _: None)  # the processes share the store, which the fixture closes
    steps = [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]
    with ExitStack() as stack:
        clients = [stack.enter_context(process(store, *secrets)).client("sealed") for secrets in steps]
        for number in range(3):
            clients[0].create(name=f"s{number}", filter={"datatype": "contact", "where": {}})
        watched = clients[0].call("ListSegments").segments[0].id
        token, page = "", ""
        for before, after in itertools.pairwise(clients):
            for client in (before, after, before, after):
                token = resume(client, watched, token)
                page = client.call("ListSegments", {"pageSize": 1, "pageToken": page}).next_page_token
                page = page or client.call("ListSegments", {"pageSize": 1}).next_page_token
        old = resume(clients[0], watched, "")
        refusal = refused(lambda: clients[-1].call("WatchMembership", {"audienceId": watched, "resumeToken": old}))
        assert (refusal.code.name, refusal.info.reason) == ("OUT_OF_RANGE", "UNKNOWN_SEALING_KEY")
