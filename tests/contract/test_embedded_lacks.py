"""The embedded store refuses what `serve --dev` says that it lacks."""

import grpc
import pytest

from audience_service.mongo.embedded.refusals import LACKING_RPCS
from tests.conftest import Service
from tests.support.client import Client, Refusal


@pytest.mark.parametrize("rpc", LACKING_RPCS)
def test_a_lacking_rpc_is_refused(service: Service, client: Client, rpc: str) -> None:
    """It does not return a wrong result, or a part of one."""
    if service.kind != "embedded":
        return
    segment = client.create(name="all", filter={"datatype": "contact", "where": {}}).id
    sync = client.call("CreateSync", {"sync": {"name": "s", "audienceIds": [segment], "platform": "meta"}}).id
    requests = {
        "StreamSyncChanges": {"id": sync, "workerId": "w"},
        "AcknowledgeSyncBatch": {"id": sync, "batchNumber": 1},
        "ResetSync": {"id": sync},
    }
    with pytest.raises(grpc.RpcError) as caught:
        answer = client.call(rpc, requests.get(rpc, {"audienceId": segment}))
        list(answer)
    assert Refusal(caught.value).info.reason == "UNSUPPORTED_BY_STORE"
