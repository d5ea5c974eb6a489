"""The privileges of the service: the role's script, the code and `doctor` agree.

The test engine has no users, so no test runs the script: this is the gap that remains.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from audience_service.mongo.core import collections, privileges
from audience_service.mongo.core.indexes import required_indexes
from audience_service.mongo.core.privileges import (
    ACTIONS_OF_METHODS,
    OWN_COLLECTIONS,
    missing_privileges,
    required_privileges,
)
from audience_service.settings import Settings

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "deploy/mongodb/role.js").read_text()
DEFAULTS = Settings()
REQUIRED = required_privileges(DEFAULTS.datatypes, DEFAULTS.related_datatypes)


def names(constant: str) -> list[str]:
    """The strings of an array in the script."""
    [array] = re.findall(rf"const {constant} = \[(.*?)\];", SCRIPT, re.S)
    return re.findall(r'"(\w+)"', array)


def test_the_role_grants_what_a_server_needs() -> None:
    granted = {"": names("databaseActions"), **dict.fromkeys(names("read"), names("readActions"))}
    granted |= dict.fromkeys(names("own"), names("writeActions"))
    assert {name: sorted(actions) for name, actions in granted.items()} == {
        name: sorted(actions) for name, actions in REQUIRED.items()
    }


def test_every_method_of_the_driver_that_the_code_calls_has_its_actions_granted() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "audience_service/mongo").rglob("*.py"))
    written = r"\.(\w+_(?:one|many|and_\w+)|bulk_write|aggregate|find|count_documents|watch|rename|drop\w*|create_\w+"
    called = set(re.findall(written + r"|index_information|list_\w+)\(", sources)) - {"list_rows"}
    called = {name for name in called if hasattr(__import__("pymongo").collection.Collection, name)}
    assert len(called) > 12
    assert called <= ACTIONS_OF_METHODS.keys()
    granted = {*privileges.WRITE_ACTIONS, *privileges.READ_ACTIONS, *privileges.DATABASE_ACTIONS}
    assert {action for name in called for action in ACTIONS_OF_METHODS[name]} - granted == {"createIndex"}


def test_every_collection_is_in_a_privilege() -> None:
    indexed = {index.collection for index in required_indexes(DEFAULTS.datatypes, DEFAULTS.related_datatypes)}
    declared = {value for name, value in vars(collections).items() if name.isupper() and isinstance(value, str)}
    assert indexed | declared <= REQUIRED.keys()
    assert len(OWN_COLLECTIONS) == len(set(OWN_COLLECTIONS))


@pytest.mark.parametrize(
    ("resource", "missing"),
    [
        ({"anyResource": True}, {}),
        ({"db": "", "collection": ""}, {}),
        ({"db": "crm", "collection": "segment"}, {}),
        ({"db": "crm", "collection": "contact"}, {"segment": ["find"]}),
        ({"db": "other", "collection": "segment"}, {"segment": ["find"]}),
        ({"cluster": True}, {"segment": ["find"]}),
    ],
)
def test_a_missing_action_is_found(resource: dict[str, Any], missing: dict[str, list[str]]) -> None:
    granted = [{"resource": resource, "actions": ["find"]}]
    assert missing_privileges(granted, "crm", {"segment": ["find"]}) == missing
