"""Samples of an org's records, by index seeks at random sort keys.

On some engines `$sample` reads the complete collection, and it does not know orgs. A seek reads the records that follow
a random key. If keys are random, so are those records. If keys are sequential, neighbours were created at about the
same time, so a sample takes many short seeks.
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
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.joins import Stages

_SEEK_COUNT = 20
_KEY_LENGTH = 12
"""Characters of a random key after the common prefix of all keys."""
_EDGE_KEY_COUNT = 50
"""Keys at either end that show the characters of keys."""


class MongoSamples:
    """The SampleRepository on MongoDB; the protocol states what each method promises."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        scope: TenantScope,
        new_random: Callable[[], random.Random] = random.Random,
    ) -> None:
        """`new_random` returns the generator that draws the keys of one sample."""
        self._database = database
        self._scope = scope
        self._new_random = new_random

    def sample(self, org: str, datatype: str, deadline: Deadline) -> Sample:
        """Read all records if there are few. Otherwise seek, and count a record that several seeks find once."""
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
        """Return the $jsonSchema of the collection's validator, from its top level or an `$and` there."""
        with with_deadline(self._database, deadline):
            found = list(self._database.list_collections(filter={"name": datatype}))
        validator = found[0].get("options", {}).get("validator", {}) if found else {}
        schemas = (part.get("$jsonSchema") for part in (validator, *validator.get("$and", ())))
        return next((schema for schema in schemas if schema), {})

    def count(self, org: str, datatype: str, match: Document, deadline: Deadline) -> int:
        """Count with a $match and $count."""
        with with_deadline(self._database, deadline):
            found = list(
                self._database[datatype].aggregate([{"$match": self._scope.match(org, match)}, {"$count": "n"}])
            )
        return int(found[0]["n"]) if found else 0

    def count_matching(
        self, org: str, datatype: str, keys: Sequence[str], matches: Sequence[Document], deadline: Deadline
    ) -> Sequence[int]:
        """Count with a $facet of the matches over the records with these keys."""
        if not matches:
            return []
        facets = {f"m{i}": [{"$match": match}, {"$count": "n"}] for i, match in enumerate(matches)}
        with with_deadline(self._database, deadline):
            [answer] = self._database[datatype].aggregate(
                [{"$match": self._scope.match(org, {"sk": {"$in": list(keys)}})}, {"$facet": facets}]
            )
        return [answer[name][0]["n"] if answer[name] else 0 for name in facets]

    def _edge_keys(self, org: str, datatype: str, order: int, limit: int, deadline: Deadline) -> list[str]:
        """Return the first or last sks of the org."""
        with with_deadline(self._database, deadline):
            rows = (
                self._database[datatype]
                .find(self._scope.match(org), {"_id": 0, "sk": 1})
                .sort("sk", order)
                .limit(limit)
            )
            return [row["sk"] for row in rows]

    def _read_from(self, org: str, datatype: str, key: str, limit: int, deadline: Deadline) -> list[Record]:
        """Return those of the next `limit` records from a key on that are not archived."""
        # The match comes after the limit. Otherwise a seek among archived records would read to the end.
        from_key: Document = {"sk": {"$gte": key}} if key else {}
        stages: Stages = [
            {"$match": self._scope.match(org, from_key)},
            {"$sort": {"sk": 1}},
            {"$limit": limit},
            {"$match": NOT_ARCHIVED_MATCH},
        ]
        with with_deadline(self._database, deadline):
            return list(self._database[datatype].aggregate(stages))


def random_keys(first: Sequence[str], last: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Return random keys between the least and the greatest key, uniform if keys are read as numbers.

    The digits of those numbers are the characters of the keys. `first` are the least keys in ascending order, `last`
    the greatest in descending order.
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
    """Return the characters that keys may have, in sort order, inferred from a sample."""
    digits = set(sample)
    for letters in (string.digits, string.ascii_lowercase, string.ascii_uppercase):
        used, hexadecimal = digits & set(letters), set(letters[:6])
        if used:
            digits |= hexadecimal if letters != string.digits and used <= hexadecimal else set(letters)
    return "".join(sorted(digits)) or "0"
