"""Lookalikes as tests make them, of people of whom some are alike."""

from typing import Any

from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.jobs import ignore_progress
from audience_service.domain.custom_audiences.model import CustomAudience
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.lookalikes.service import Lookalikes
from audience_service.pb.audience.v1.resources_pb2 import CREATION_STATE_READY
from tests.conftest import Service
from tests.support.audiences import segment_resolver
from tests.support.client import Client
from tests.support.fault_injection import FailAtStep
from tests.support.lists import NO_DEADLINE


def people(count: int, **extra_fields: Any) -> list[dict[str, Any]]:
    """Contacts of whom every tenth scores 90, lives in Lima and runs; among the others some live there, or run."""
    return [
        {
            "id": f"{number:05}",
            "data": {
                "score": 90 if number % 10 == 0 else 10,
                "city": "Lima" if number % 10 == 0 or number % 7 == 0 else "Oslo",
                "tags": ["run", "eat"] if number % 10 == 0 or number % 3 == 0 else ["eat"],
                "country": "PE" if number % 4 < 2 else "NO",
                "language": "es",
                **extra_fields,
            },
        }
        for number in range(count)
    ]


def segment(client: Client, where: dict[str, Any]) -> str:
    """The id of a new segment."""
    return str(client.create(name=str(where), filter={"datatype": "contact", "where": where}).id)


def lookalike(client: Client, source: str, **spec: Any) -> Any:
    """A new lookalike, which is READY."""
    made = client.settled(begin(client, source, **spec).id)
    assert made.creation_state == CREATION_STATE_READY, made
    return made


def begin(client: Client, source: str, **spec: Any) -> Any:
    """A lookalike as CreateCustomAudience returns it."""
    size = {} if {"share", "count"} & spec.keys() else {"count": 50}
    lookalike_spec = {"sourceAudienceId": source, "fields": ["city", "tags"], **size, **spec}
    return client.custom(name=f"like {source} {spec}"[:200], type="lookalike", lookalike=lookalike_spec)


def model(client: Client, audience_id: str) -> Any:
    """The model."""
    return client.call("GetLookalikeModel", {"id": audience_id})


class Refresher:
    """Refreshes a lookalike of an org by the use case, and runs an action during one of its steps."""

    def __init__(self, service: Service, client: Client, audience_id: str) -> None:
        self._store, self._org, self._audience_id = service.store, dict(client.metadata)["orgid"], audience_id

    def refresh(self, step: str = "feature_stats", *, before: Any = None) -> CustomAudience:
        """The audience as it is written; `before` is called before the model's step."""
        store = self._store
        audiences = segment_resolver(store.segments, FilterCompiler(["contact"]))
        models: Any = FailAtStep(store.lookalikes, step, before=before)
        lookalikes = Lookalikes(store.custom_audiences, audiences, models, store.members, store.samples, 5)
        audience = store.custom_audiences.get(self._org, self._audience_id, NO_DEADLINE)
        ctx = RequestContext(Caller("tester", self._org, frozenset()), Deadline.after(600))
        return lookalikes.refresh(ctx, audience, ignore_progress)
