"""The table of errors: every one has a code, a reason of the contract, and a line in its proto."""

from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import pytest
from google.rpc import error_details_pb2, status_pb2

from audience_service.domain.core import errors
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import AudienceError
from audience_service.domain.custom_audiences import errors as custom_errors
from audience_service.pb.audience.v1.error_reason_pb2 import ErrorReason
from audience_service.rpc.errors import code_of, set_status

PROTO = Path(__file__).parents[2] / "protos/audience/v1/error_reason.proto"


def leaves(kind: type[AudienceError]) -> list[type[AudienceError]]:
    """The classes that are raised: those with a reason of their own."""
    below = [leaf for child in kind.__subclasses__() for leaf in leaves(child)]
    return [kind, *below] if "reason" in vars(kind) else below


def test_every_error_has_a_reason_of_the_contract_and_every_reason_an_error() -> None:
    reasons = [leaf.reason for leaf in leaves(AudienceError)]
    assert len(reasons) == len(set(reasons))
    assert {*reasons, "INTERNAL", "ERROR_REASON_UNSPECIFIED"} == set(ErrorReason.keys())


@pytest.mark.parametrize("kind", leaves(AudienceError), ids=lambda kind: kind.__name__)
def test_the_proto_states_the_code_that_the_table_gives(kind: type[AudienceError]) -> None:
    described = PROTO.read_text().split(f"// {kind.reason}:")[1].split("{")[0]
    assert f"{code_of(kind('x')).name}." in " ".join(described.replace("//", " ").split())


@pytest.mark.parametrize("module", [errors, custom_errors], ids=lambda module: module.__name__)
def test_the_tree_in_the_module_shows_every_error(module: ModuleType) -> None:
    drawn = set((module.__doc__ or "").replace("│", " ").replace("─", " ").split())
    named = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    classes = {name for name, value in named.items() if isinstance(value, type) and issubclass(value, Exception)}
    assert classes <= drawn


def test_callers_that_are_refused_together_do_not_retry_together() -> None:
    """Their delays are spread between one and two times that of the error."""
    delays = set()
    for _ in range(50):
        context = Mock()
        set_status(context, errors.TooManyCalls("x"), "id")
        [(_, raw)] = context.set_trailing_metadata.call_args.args[0]
        [detail] = [
            d for d in status_pb2.Status.FromString(raw).details if d.Is(error_details_pb2.RetryInfo.DESCRIPTOR)
        ]
        retry = error_details_pb2.RetryInfo()
        detail.Unpack(retry)
        delays.add(retry.retry_delay.ToMilliseconds())
    assert len(delays) > 20
    assert min(delays) >= 1_000
    assert max(delays) <= 2_000


def test_field_paths_are_prefixed_on_the_way_out() -> None:
    with pytest.raises(errors.InvalidArgument) as caught, prefix_error_path("segment"), prefix_error_path("filter"):
        raise errors.InvalidArgument.at("where", "is missing")
    assert caught.value.violations[0].field == "segment.filter.where"
