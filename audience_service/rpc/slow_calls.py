"""Log lines of slow calls: the audience or filter of the call, its query plan, and the index that would help.

1. The plan is explained after the call, in one thread, so that no caller waits for it. While an explanation runs,
   further slow calls are logged without a plan.
2. The line contains ids, field names and index names. It contains no values of a filter.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from google.protobuf.message import Message

from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import AudienceError
from audience_service.domain.explain.filter_explanation import FilterExplanation
from audience_service.observability.tracing import background_span
from audience_service.rpc.converters.audiences import decode_selection

Explain = Callable[[RequestContext, AudienceSelector], FilterExplanation]
"""Explains the plan of a selection, without running it."""

_EXPLAIN_TIMEOUT_SECONDS = 10.0
_AUDIENCE_ID = re.compile(r"(?:segment|custom|snapshot)-[\w-]{1,128}", re.ASCII)
"""A text of another form is no id. It may be a value, such as an address."""
_FIELD_PATH = re.compile(r"[\w.$-]{1,256}")
_MAX_AUDIENCES = 5

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SlowCall:
    """A call that took longer than the threshold. `fields` are those of its log lines."""

    ctx: RequestContext
    request: Message
    fields: Mapping[str, Any]


class SlowCallLog:
    """Logs slow unary calls. The time of a stream depends on its client, so streams are not slow."""

    def __init__(self, threshold_seconds: float, explain: Explain) -> None:
        """A threshold of 0 logs no call."""
        self._threshold_seconds = threshold_seconds
        self._explain = explain
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="slow-calls")
        self._idle = threading.Semaphore(1)

    def is_slow(self, seconds: float) -> bool:
        """Whether a call that took this long is logged."""
        return 0 < self._threshold_seconds <= seconds

    def add(self, call: SlowCall) -> None:
        """Log a call, with its plan if no other explanation is running. Returns immediately."""
        audiences = list(audiences_of(call.request))
        selection = _selection_of(call.request, audiences)
        fields = {**call.fields, "audiences": audiences[:_MAX_AUDIENCES], "has_filter": bool(selection.filter)}
        if not (selection.filter or selection.audience_id):
            _log.warning("slow call", **fields)
        elif not self._idle.acquire(blocking=False):
            _log.warning("slow call", **fields, plan="not explained, since another explanation is running")
        else:
            with suppress(RuntimeError):  # the process is stopping
                self._thread.submit(self._log_with_plan, call.ctx, selection, fields)

    def close(self) -> None:
        """Stop. An explanation that runs ends by its own deadline."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @background_span("explain slow call")
    def _log_with_plan(self, ctx: RequestContext, selection: AudienceSelector, fields: dict[str, Any]) -> None:
        try:
            later = RequestContext(ctx.caller, Deadline.after(_EXPLAIN_TIMEOUT_SECONDS))
            explanation = self._explain(later, selection)
            plan, advice = explanation.plan, explanation.advice
            if plan is None or advice is None:
                _log.warning("slow call", **fields, plan="not explained, since the store has no plans")
                return
            index = f"{advice.datatype}({', '.join(advice.fields)})" if advice.useful else ""
            plan_text = f"{plan.kind} {plan.index}".strip() + f", {plan.joins} joins" * bool(plan.joins)
            if not all(map(_FIELD_PATH.fullmatch, (advice.datatype, *advice.fields))):
                _log.warning("slow call", **fields, plan=plan_text, index="of fields with unusual names")
                return
            _log.warning("slow call", **fields, plan=plan_text, index=index, reason=advice.reason)
        except AudienceError as error:
            _log.warning("slow call", **fields, plan=f"not explained: {error.reason}")
        except Exception as error:
            _log.error("explaining a slow call failed", **fields, exc_info=error)
        finally:
            self._idle.release()


def audiences_of(request: Message) -> Iterator[str]:
    """The ids of the audiences that a request names, in any field on its first level."""
    for descriptor, value in request.ListFields():
        if descriptor.name == "id" or descriptor.name.endswith(("_id", "_ids")):
            texts = [value] if isinstance(value, str) else value
            yield from (text for text in texts if _AUDIENCE_ID.fullmatch(text))


def _selection_of(request: Any, audiences: list[str]) -> AudienceSelector:
    """The filter of a request, else its first audience."""
    fields = request.DESCRIPTOR.fields_by_name
    holder = request.segment if "segment" in fields else request
    with suppress(AudienceError):
        filter_ = decode_selection(holder).filter
        if filter_ is not None:
            return AudienceSelector(filter=filter_)
    return AudienceSelector(audience_id=audiences[0] if audiences else "")
