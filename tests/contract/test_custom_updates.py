"""UpdateCustomAudience: names and descriptions change, and lists that are published meanwhile stay published."""

import dataclasses
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Caller, RequestContext
from audience_service.domain.core.errors import NameTaken, StaleVersion
from audience_service.domain.core.idempotency import new_list_version_id
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.custom_audiences.model import CustomAudienceDraft
from audience_service.domain.custom_audiences.service import CustomAudiences
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.fault_injection import FailAtStep
from tests.support.lists import NO_DEADLINE, publish, write_rows
from tests.support.uploads import Uploader, emails

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def update(client: Client, mask: str = "", **audience: Any) -> Any:
    """The response to an update, from JSON fields."""
    return client.call("UpdateCustomAudience", {"customAudience": audience, **({"updateMask": mask} if mask else {})})


def test_a_mask_limits_the_update_to_the_fields_that_it_names(client: Client) -> None:
    """Only the masked field changes, the version grows by one, and Get returns the same."""
    made = client.custom(name="fair", description="visitors")
    renamed = update(client, "name", id=made.id, name=" Autumn fair ")
    assert (renamed.name, renamed.description, renamed.version) == ("Autumn fair", "visitors", 1)
    described = update(client, "description", id=made.id, description="those who came")
    assert (described.name, described.description, described.version) == ("Autumn fair", "those who came", 2)
    assert described.update_time.ToDatetime() >= made.update_time.ToDatetime()
    assert client.call("GetCustomAudience", {"id": made.id}) == described


def test_without_a_mask_name_and_description_are_both_replaced(client: Client, refused: Refused) -> None:
    """An omitted description becomes empty, and an omitted name is refused."""
    made = client.custom(name="fair", description="visitors")
    assert update(client, id=made.id, name="spring").description == ""
    assert refused(lambda: update(client, id=made.id)).fields == ["custom_audience.name"]


def test_the_response_of_get_can_be_sent_back(client: Client) -> None:
    """An update accepts every field of the audience, as long as type, datatype and spec are unchanged."""
    made = client.custom(name="match", type="customer_match", customerMatch={"platform": "tiktok"})
    request = {"id": made.id, "name": "again", "type": made.type, "datatype": made.datatype, "version": 0}
    spec = {"platform": "tiktok", "rulesVersion": made.customer_match.rules_version}
    spec["options"] = dict(made.customer_match.options)
    changed = update(client, **request, customerMatch=spec)
    assert (changed.name, changed.customer_match) == ("again", made.customer_match)


def test_the_audience_of_a_platform_is_stored_and_updated(client: Client) -> None:
    """A caller reports its id, size and time; an update with a mask changes it alone, or clears it."""
    external = {"platform": "meta", "id": "238", "size": "1200", "syncedTime": "2026-11-20T08:00:00.123Z"}
    made = client.custom(name="lookalikes of Meta", external=external)
    assert (made.external.id, made.external.size) == ("238", 1_200)
    assert made.external.synced_time.ToJsonString() == external["syncedTime"]
    larger = update(client, "external", id=made.id, external={**external, "size": "1500"})
    assert (larger.external.size, larger.name) == (1_500, made.name)
    assert client.call("GetCustomAudience", {"id": made.id}) == larger
    assert client.call("ListCustomAudiences").custom_audiences[0].external == larger.external
    assert update(client, "name", id=made.id, name="other").external == larger.external
    assert not update(client, "external", id=made.id).HasField("external")


@pytest.mark.parametrize(
    ("mask", "changes", "field"),
    [
        ("type", {}, "update_mask"),
        ("name,contactCount", {"name": "x"}, "update_mask"),
        ("name", {"name": " "}, "custom_audience.name"),
        ("description", {"description": "x" * 2_001}, "custom_audience.description"),
        ("name", {"name": "x", "type": "lookalike"}, "custom_audience.type"),
        ("name", {"name": "x", "datatype": "lead"}, "custom_audience.datatype"),
        ("name", {"name": "x", "customerMatch": {"platform": "meta"}}, "custom_audience.customer_match"),
        ("name", {"name": "x", "id": ""}, "custom_audience.id"),
        ("external", {"external": {"platform": "myspace", "id": "1"}}, "custom_audience.external.platform"),
        ("external", {"external": {"platform": "meta"}}, "custom_audience.external.id"),
        ("external", {"external": {"platform": "meta", "id": "1", "size": "-1"}}, "custom_audience.external.size"),
    ],
)
def test_an_invalid_update_is_refused_at_its_field(
    client: Client, refused: Refused, mask: str, changes: dict[str, Any], field: str
) -> None:
    """The error names the field, and the audience stays as it was."""
    made = client.custom(name="fair")
    refusal = refused(lambda: update(client, mask, **{"id": made.id, **changes}))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == [field]
    assert client.call("GetCustomAudience", {"id": made.id}) == made


def test_a_name_of_another_audience_is_refused_and_its_own_is_not(client: Client, refused: Refused) -> None:
    """NAME_TAKEN compares with other audiences; a new name releases the old one."""
    made, other = client.custom(name="one"), client.custom(name="two")
    refusal = refused(lambda: update(client, "name", id=made.id, name="two"))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")
    assert update(client, "name", id=made.id, name="one").version == 1
    update(client, "name", id=made.id, name="three")
    assert update(client, "name", id=other.id, name="one").name == "one"


def test_an_update_at_another_version_is_refused(client: Client, refused: Refused) -> None:
    """STALE_VERSION returns the current version, and the record stays as it was."""
    made = client.custom(name="fair")
    update(client, "name", id=made.id, name="first", version=0)
    refusal = refused(lambda: update(client, "name", id=made.id, name="second", version=0))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.ABORTED, "STALE_VERSION")
    assert refusal.info.metadata["current_version"] == "1"
    assert client.call("GetCustomAudience", {"id": made.id}).name == "first"


def test_validate_only_of_an_update_writes_nothing(client: Client, refused: Refused) -> None:
    """The response shows the audience as it would be, and errors are the same as without it."""
    made = client.custom(name="fair")
    client.custom(name="taken")
    request = {"customAudience": {"id": made.id, "name": "new"}, "updateMask": "name", "validateOnly": True}
    assert client.call("UpdateCustomAudience", request).name == "new"
    assert client.call("GetCustomAudience", {"id": made.id}) == made
    request["customAudience"] = {"id": made.id, "name": "taken"}
    assert refused(lambda: client.call("UpdateCustomAudience", request)).info.reason == "NAME_TAKEN"


def test_an_audience_that_does_not_exist_is_not_updated(client: Client, service: Service, refused: Refused) -> None:
    """Deleted audiences, segments and audiences of other orgs are AUDIENCE_NOT_FOUND."""
    made, deleted = client.custom(name="one"), client.custom(name="two")
    client.call("DeleteCustomAudience", {"id": deleted.id})
    segment = client.create(name="x", filter={"datatype": "contact", "where": {}})
    for caller, audience_id in ((service.client("elsewhere"), made.id), (client, deleted.id), (client, segment.id)):
        refusal = refused(lambda caller=caller, name=audience_id: update(caller, "name", id=name, name="x"))
        assert refusal.info.reason == "AUDIENCE_NOT_FOUND"


def test_a_list_is_published_over_a_rename(service: Service, client: Client, org: str, insert: Insert) -> None:
    """A publisher that read the audience before a rename publishes its list and keeps the new name."""
    ids, custom_audiences = insert([{}, {}]), service.store.custom_audiences
    made = client.custom(name="before").id
    read, list_version_id = custom_audiences.get(org, made, NO_DEADLINE), new_list_version_id(made)
    custom_audiences.reserve(org, made, list_version_id, now() + timedelta(hours=1), NO_DEADLINE)
    write_rows(service.store, org, list_version_id, ids)
    update(client, id=made, name="after", description="renamed")
    written = custom_audiences.publish(org, read, list_version_id, {}, NO_DEADLINE)
    shown = client.call("GetCustomAudience", {"id": made})
    assert (shown.name, shown.description, shown.version, shown.contact_count) == ("after", "renamed", 2, 2)
    assert (written.name, written.version) == ("after", 2)


def test_a_rename_keeps_a_list_that_was_published_meanwhile(
    service: Service, client: Client, org: str, insert: Insert
) -> None:
    """An update without a version is repeated; an update with one is STALE_VERSION."""
    ids = insert([{}, {}])
    made = client.custom(name="before").id
    racing = FailAtStep(service.store.custom_audiences, "save", before=lambda: publish(service.store, org, made, ids))
    custom_audiences: Any = racing
    cases = CustomAudiences(custom_audiences, service.store.lists, {}, {}, TokenCodec(b"key"))
    ctx = RequestContext(Caller("racer", org, frozenset()), NO_DEADLINE)
    written = cases.update(ctx, made, CustomAudienceDraft("after", ""), ["name"], None, validate_only=False)
    assert (written.name, written.version, written.contact_count) == ("after", 2, 2)
    assert sorted(client.members(audienceId=made)) == sorted(ids)
    stale = service.store.custom_audiences.get(org, made, NO_DEADLINE)
    publish(service.store, org, made, ids[:1])
    with pytest.raises(StaleVersion):
        service.store.custom_audiences.save(org, stale, NO_DEADLINE)


def test_uploads_and_renames_that_race_all_take_effect(client: Client, insert: Insert) -> None:
    """Five uploads and ten renames run concurrently; the list has every contact, and the last name stays."""
    names = [f"p{number}" for number in range(5)]
    ids = insert([{"data": {"email": f"{name}@example.com"}} for name in names])
    made, errors = client.custom(name="race").id, list[Exception]()

    def rename() -> None:
        for number in range(10):
            update(client, "name", id=made, name=f"race {number}")

    def upload() -> None:
        for name in names:
            Uploader(client).upload(made, emails(name), uploadId=name)

    def run(action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in (rename, upload)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    shown = client.call("GetCustomAudience", {"id": made})
    assert (shown.name, shown.version) == ("race 9", 15)
    assert sorted(client.members(audienceId=made)) == sorted(ids)


def test_the_index_keeps_names_unique_if_two_renames_come_at_once(service: Service, client: Client, org: str) -> None:
    """The second rename to a name is NAME_TAKEN, although both were checked before."""
    custom_audiences = service.store.custom_audiences
    one, two = (custom_audiences.get(org, client.custom(name=name).id, NO_DEADLINE) for name in ("one", "two"))
    custom_audiences.save(org, _named(one, "new"), NO_DEADLINE)
    with pytest.raises(NameTaken):
        custom_audiences.save(org, _named(two, "new"), NO_DEADLINE)


def _named(audience: Any, name: str) -> Any:
    return dataclasses.replace(audience, name=name)
