"""Samples of an org's records, by seeks into the index on sk at random keys.

`$sample` reads the whole collection on some engines, and knows no org. A seek reads the records that follow a key:
where keys are random so is what is found, and where they are given in sequence a seek finds records of one time, which
is why there are many short ones.
"""

import random
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.filter import Document
from audience_service.domain.schema.sample import SAMPLE_SIZE, Sample
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import tenant_match
from audience_service.mongo.query.joins import Stages

_SEEK_COUNT = 20
_KEY_LENGTH = 12
"""Characters of a random key behind what all keys have in common."""
_EDGE_KEY_COUNT = 50
"""Keys at either end that tell which characters keys are made of."""


class MongoSamples:
    """The SampleRepository on MongoDB; the protocol states what each method promises."""

    def __init__(
        self, database: Database[dict[str, Any]], new_random: Callable[[], random.Random] = random.Random
    ) -> None:
        """`new_random` returns the generator that chooses the keys of one sample."""
        self._database = database
        self._new_random = new_random

    def sample(self, org: str, datatype: str, deadline: Deadline) -> Sample:
        """One read of all where there are few; else seeks, in which a record that is found twice counts once."""
        first = self._edge_keys(org, datatype, 1, SAMPLE_SIZE + 1, deadline)
        if len(first) <= SAMPLE_SIZE:
            return Sample(self._read_from(org, datatype, "", SAMPLE_SIZE, deadline), is_complete=True)
        last = self._edge_keys(org, datatype, -1, _EDGE_KEY_COUNT, deadline)
        found: dict[str, Record] = {}
        for key in random_keys(first, last, _SEEK_COUNT, self._new_random()):
            records = self._read_from(org, datatype, key, SAMPLE_SIZE // _SEEK_COUNT, deadline)
            found |= {record["sk"]: record for record in records}
        return Sample(list(found.values()), is_complete=False)

    def schema(self, org: str, datatype: str, deadline: Deadline) -> Mapping[str, Any]:  # noqa: ARG002 - orgs share it
        """Of the collection's validator, at its top or in an `$and` there."""
        with with_deadline(self._database, deadline):
            found = list(self._database.list_collections(filter={"name": datatype}))
        validator = found[0].get("options", {}).get("validator", {}) if found else {}
        schemas = (part.get("$jsonSchema") for part in (validator, *validator.get("$and", ())))
        return next((schema for schema in schemas if schema), {})

    def count_matching(
        self, org: str, datatype: str, keys: Sequence[str], matches: Sequence[Document], deadline: Deadline
    ) -> Sequence[int]:
        """By a $facet of true matches over the records with the keys."""
        if not matches:
            return []
        facets = {f"m{i}": [{"$match": match}, {"$count": "n"}] for i, match in enumerate(matches)}
        with with_deadline(self._database, deadline):
            [answer] = self._database[datatype].aggregate(
                [{"$match": tenant_match(org, {"sk": {"$in": list(keys)}})}, {"$facet": facets}]
            )
        return [answer[name][0]["n"] if answer[name] else 0 for name in facets]

    def _edge_keys(self, org: str, datatype: str, order: int, limit: int, deadline: Deadline) -> list[str]:
        """The sks at one end of the org's."""
        with with_deadline(self._database, deadline):
            rows = self._database[datatype].find(tenant_match(org), {"_id": 0, "sk": 1}).sort("sk", order).limit(limit)
            return [row["sk"] for row in rows]

    def _read_from(self, org: str, datatype: str, key: str, limit: int, deadline: Deadline) -> list[Record]:
        """The records in use among the next ones from a key on."""
        # Those not in use are left out behind the limit: or, where nearly all are, a seek would read on to the end.
        from_key: Document = {"sk": {"$gte": key}} if key else {}
        stages: Stages = [
            {"$match": tenant_match(org, from_key)},
            {"$sort": {"sk": 1}},
            {"$limit": limit},
            {"$match": NOT_ARCHIVED_MATCH},
        ]
        with with_deadline(self._database, deadline):
            return list(self._database[datatype].aggregate(stages))


def random_keys(first: Sequence[str], last: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Keys between the least and the greatest one, spread as if keys were numbers in the digits that they are made of.

    `first` are the least keys in ascending order, `last` the greatest in descending order.
    """
    low, high = first[0], last[0]
    prefix_length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    digits = _digits("".join(key[prefix_length:] for key in (*first, *last)))

    def number(key: str) -> int:
        value = 0
        for character in key[prefix_length : prefix_length + _KEY_LENGTH].ljust(_KEY_LENGTH, digits[0]):
            value = value * len(digits) + digits.index(character)
        return value

    def text(value: int) -> str:
        characters = []
        for _ in range(_KEY_LENGTH):
            value, digit = divmod(value, len(digits))
            characters.append(digits[digit])
        return low[:prefix_length] + "".join(reversed(characters))

    return [text(rng.randint(number(low), number(high))) for _ in range(count)]


def _digits(sample: str) -> str:
    """The characters that keys are made of, in the order of keys, given some that were seen."""
    digits = set(sample)
    for letters in (string.digits, string.ascii_lowercase, string.ascii_uppercase):
        used, hexadecimal = digits & set(letters), set(letters[:6])
        if used:
            digits |= hexadecimal if letters != string.digits and used <= hexadecimal else set(letters)
    return "".join(sorted(digits)) or "0"
