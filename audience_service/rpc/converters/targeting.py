"""Converters of taxonomy nodes."""

from collections.abc import Collection, Mapping, Sequence

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.targeting.model import LOCALES, Node
from audience_service.pb.audience.v1 import targeting_service_pb2 as pb


def decode_languages(languages: Sequence[str]) -> Collection[str]:
    """The languages of the names to return.

    Raises InvalidArgument for an unsupported language, or for more languages than the taxonomies have.
    """
    if len(languages) > len(LOCALES):
        raise InvalidArgument.at("languages", f"are {len(languages)}; name at most {len(LOCALES)}, each once")
    for index, language in enumerate(languages):
        if language not in LOCALES:
            raise InvalidArgument.at(f"languages[{index}]", f"is not supported; use one of {', '.join(LOCALES)}")
    return languages


def encode_targeting_node(
    value: Node, platform_ids: Mapping[str, str], languages: Collection[str] = ()
) -> pb.TargetingNode:
    """The message of a node, with its names in these languages."""
    node = pb.TargetingNode(
        id=value.id,
        parent_id=value.ancestors[-1].id if value.ancestors else "",
        name=value.name,
        ancestors=[pb.TargetingNodeName(id=ancestor.id, name=ancestor.name) for ancestor in value.ancestors],
        kind=value.kind,
        country=value.country,
        population=value.population,
        localized_names={code: value.localized[code] for code in languages if code in value.localized},
        platform_ids=platform_ids,
        platform=value.platform,
        value=value.value,
        source=value.source,
        child_count=value.child_count,
        path=value.path,
        same_as=value.same_as,
    )
    if value.audience_size:
        node.audience_size.lower_bound, node.audience_size.upper_bound = value.audience_size
    if value.coordinates:
        node.coordinates.latitude, node.coordinates.longitude = value.coordinates
    return node
