"""The audience builder's tree of a filter: opening and saving a segment changes nothing."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.schema.service import operators_for

pytestmark = pytest.mark.slow  # it starts Node

DATA = Path("tests/data")
FIELDS = {
    "country": ["string"],
    "tags": ["array", "string"],
    "owner": ["string"],
    "address.city": ["string"],
    "score": ["int", "double"],
    "email": ["string"],
    "hasConsent": ["bool"],
    "openedAt": ["date"],
    "birthday": ["date"],
}
SCRIPT = """
const { fromFilter, toFilter } = await import(process.argv[1]);
const { fields, filters } = JSON.parse((await import("node:fs")).readFileSync(0, "utf8"));
const known = new Map(fields.map((field) => [field.path, field]));

function outline(node) {
  if (node.kind === "group") return `${node.mode}(${node.children.map(outline).join(", ")})`;
  if (node.kind === "condition") return `${node.field} ${node.operator} ${JSON.stringify(node.value)}`;
  return node.kind === "audience" ? `${node.negated ? "not in" : "in"} ${node.audienceId}` : "JSON";
}

console.log(JSON.stringify(filters.map((where) => {
  const root = fromFilter({ datatype: "contact", where }, known);
  const { filter, incomplete, places } = toFilter(root, "contact", known);
  return {
    written: JSON.stringify(filter.where),
    isSame: !incomplete.length && JSON.stringify(filter.where) === JSON.stringify(where),
    shown: root.mode === "all" ? root.children.map(outline) : [outline(root)],
    places: [...places.keys()],
  };
})));
"""


def open_and_write(node: str, folder: Path, fields: dict[str, list[str]], filters: list[Any]) -> list[dict[str, Any]]:
    """What the builder shows and writes for each filter, if the org has these fields with these types."""
    shutil.copytree("examples/builder", folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')  # as a browser loads them
    described = [
        {
            "path": path,
            "types": [{"name": name} for name in types],
            "operators": operators_for(FieldProfile(path, dict.fromkeys(types, 1.0), 1)),
        }
        for path, types in fields.items()
    ]
    command = [node, "--input-type=module", "--eval", SCRIPT, str(folder / "filter.js")]
    given = json.dumps({"fields": described, "filters": filters})
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=50, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_filter_is_written_as_it_was_read(node: str, tmp_path: Path) -> None:
    """What the controls cannot express exactly is shown as JSON."""
    rows = json.loads((DATA / "builder_filters.json").read_text())
    found = open_and_write(node, tmp_path, FIELDS, [where for where, _ in rows])
    assert [(where, each["shown"]) for (where, _), each in zip(rows, found, strict=True)] == [
        (where, shown) for where, shown in rows
    ]
    assert [each["written"] for each in found if not each["isSame"]] == []


@pytest.mark.parametrize("types", [["string"], ["array", "string"], ["array", "string", "int", "bool", "date"]])
def test_a_filter_with_any_operator_is_written_as_it_was_read(node: str, tmp_path: Path, types: list[str]) -> None:
    """All operators of docs/reference/operators.md and their combinations, whatever the fields hold."""
    filters = [where for where, *_ in json.loads((DATA / "descriptions.json").read_text())]
    names = {name.removeprefix("data.") for where in filters for name in where if not name.startswith("$")}
    found = open_and_write(node, tmp_path, dict.fromkeys(names, types), filters)
    assert [each["written"] for each in found if not each["isSame"]] == []


def test_an_error_is_shown_at_its_part_of_an_object(node: str, tmp_path: Path) -> None:
    """A field path of the service leads to the condition or group that it is in."""
    where = {"country": "US", "data.address.city": "Lyon", "$or": [{"tags": "vip"}, {"score": 5, "email": "a"}]}
    [found] = open_and_write(node, tmp_path, FIELDS, [where])
    inside = ["", ".country", ".data.address.city", ".$or", ".$or[0]", ".$or[1]", ".$or[1].score", ".$or[1].email"]
    assert found["places"] == [f"filter.where{path}" for path in inside]
