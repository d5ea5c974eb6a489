"""The targeting options in the ad platforms' SDKs."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .packages import GOOGLE, META, TIKTOK
from .rows import Row

GOOGLE_FACETS = (
    "age_range_type", "gender_type", "income_range_type", "parental_status_type", "device", "mobile_device_type",
    "placement_type", "day_of_week",
)  # fmt: skip
META_FACETS = (
    ("targeting", "DevicePlatforms"), ("adcampaignplacementget", "EffectivePublisherPlatforms"),
    ("adcampaignplacementget", "EffectiveFacebookPositions"), ("adcampaignplacementget", "EffectiveInstagramPositions"),
    ("adcampaignplacementget", "EffectiveMessengerPositions"),
    ("adcampaignplacementget", "EffectiveAudienceNetworkPositions"),
)  # fmt: skip
TIKTOK_FACETS = ("gender", "operating_systems")


def options() -> list[Row]:
    """The facets and values that each platform's official SDK enumerates, in the SDK's order."""
    rows: list[Row] = []
    newest = max((GOOGLE.open() / "google/ads/googleads").glob("v*"), key=lambda path: int(path.name[1:]))
    for facet, values in _google_enums(newest):
        rows += _facet("google", f"{GOOGLE.label} ({newest.name})", facet, values)
    for module, name in META_FACETS:
        facet = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        rows += _facet("meta", META.label, facet, _meta_enum(module, name))
    comments = re.sub(r"\s*\n \*\s*", " ", (TIKTOK.open() / "package/src/model/SavedAudienceCreateBody.js").read_text())
    for facet in TIKTOK_FACETS:
        [values_text] = re.findall(rf"Enum values: ([A-Z_, ]+)[^@]*@member \{{[^}}]*\}} {facet}\b", comments)
        rows += _facet("tiktok", TIKTOK.label, facet, [(value.strip(), "") for value in values_text.split(",")])
    tools = (TIKTOK.open() / "package/src/api/ToolApi.js").read_text()
    [values_text] = re.findall(r"@param \{[^}]*\} placements .*we support ([A-Z_]+(?:(?:, | and )[A-Z_]+)*)\.", tools)
    rows += _facet("tiktok", TIKTOK.label, "placements", [(value, "") for value in re.findall("[A-Z_]+", values_text)])
    return rows


def _facet(platform: str, source: str, facet: str, values: Iterable[tuple[str, str]]) -> Iterator[Row]:
    parent = f"option-{platform}-{facet}"
    yield Row(parent, _title(facet), "facet", source, platform=platform, value=facet, names={_title(facet)})
    for value, description in values:
        row = Row(f"{parent}-{value}", description or _title(value), "option", source, parent, platform=platform)
        row.value, row.names = value, {row.name, value}
        yield row


def _title(constant: str) -> str:
    return constant.replace("_", " ").capitalize()


def _google_enums(api: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The enums of an API version, with the documented description of each member."""
    for facet in GOOGLE_FACETS:
        enum = _last_class(ast.parse((api / f"enums/types/{facet}.py").read_text()))
        docstring = re.sub(r"\s+", " ", ast.get_docstring(enum) or "")
        values = []
        for name, _ in _enum_members(enum):
            if name not in ("UNSPECIFIED", "UNKNOWN"):
                [description] = re.findall(rf" {name} \(\d+\): (.*?)(?= [A-Z0-9_]+ \(\d+\): |$)", docstring)
                values.append((name, re.split(r"\. |\(", description)[0].rstrip(". ")))
        yield facet, values


def _meta_enum(module: str, name: str) -> list[tuple[str, str]]:
    tree = ast.parse((META.open() / f"facebook_business/adobjects/{module}.py").read_text())
    [enum] = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]
    return [(str(value), "") for _, value in _enum_members(enum)]


def _last_class(tree: ast.AST) -> ast.ClassDef:
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)][-1]


def _enum_members(enum: ast.ClassDef) -> Iterator[tuple[str, object]]:
    for node in enum.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        ):
            yield node.targets[0].id, node.value.value
