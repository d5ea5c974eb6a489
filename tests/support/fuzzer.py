"""Requests that are valid, nearly valid, or noise, as bytes."""

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from audience_service.pb.audience.v1 import membership_service_pb2, reach_service_pb2, segment_service_pb2

_CREATE = segment_service_pb2.CreateSegmentRequest
_EXPLAIN = membership_service_pb2.ExplainMembershipRequest
_RPCS: list[tuple[str, str, type[Message]]] = [
    ("unary_unary", "SegmentService/CreateSegment", _CREATE),
    ("unary_unary", "ReachService/EstimateReach", reach_service_pb2.EstimateReachRequest),
    ("unary_stream", "MembershipService/StreamMembers", membership_service_pb2.StreamMembersRequest),
    ("unary_unary", "MembershipService/ExplainMembership", _EXPLAIN),
]
FUZZED_CONTACT = "contact-fuzzed"
"""The contact that is asked about."""
_VALIDATE_ONLY = b"\x20\x01"
"""CreateSegmentRequest.validate_only in bytes, put before and behind whatever becomes of the others: none is saved."""

_TOKENS = re.compile(r'"[^"]*"|[\w.+-]+|[{}\[\]:,]')
_LEAVES = (None, True, -1, 0, 2**31, 1e300, 0.5, "", "US", "2026-03-25", "(a", "$$NOW")


_DATA = Path(__file__).parent.parent / "data"


def filter_texts() -> list[str]:
    """The filters of the tests as texts: valid ones, refused ones and attacks."""
    valid = [row[1] for name in ("matches", "expressions") for row in json.loads((_DATA / f"{name}.json").read_text())]
    others = [row[1] for name in ("refusals", "attacks") for row in json.loads((_DATA / f"{name}.json").read_text())]
    return [*map(json.dumps, valid), *(text for text in others if isinstance(text, str))]


class Fuzzer:
    """Makes requests out of the texts of filters, valid ones and others."""

    def __init__(self, texts: Sequence[str], rng: random.Random) -> None:
        self._rng = rng
        self._texts = [text for text in texts if len(text) < 1_000]
        self._tokens: list[str] = sorted({token for text in self._texts for token in _TOKENS.findall(text)})
        words = (token.strip('"') for token in self._tokens if token.startswith('"'))
        self._words: list[str] = [word for word in words if "\\" not in word]

    def requests(self, number: int) -> Iterator[tuple[str, str, bytes]]:
        """The kind of call, its method and the request."""
        for _ in range(number):
            [(kind, path, message)] = self._rng.choices(_RPCS, (3, 3, 1, 1))
            raw = self._bytes(message)
            yield kind, path, _VALIDATE_ONLY + raw + _VALIDATE_ONLY if message is _CREATE else raw

    def _bytes(self, kind: type[Message]) -> bytes:
        rng = self._rng.random()
        if rng < 0.03:
            return self._rng.randbytes(self._rng.randrange(40))
        if rng < 0.06:
            return self._deep(kind)
        raw = self._message(kind).SerializeToString()
        return self._damaged(raw) if rng < 0.4 else raw

    def _message(self, kind: type[Message]) -> Message:
        written: dict[str, Any] = {"datatype": "contact", "whereJson": self._text()}
        if self._rng.random() < 0.3:
            written = {"datatype": "contact", "where": self._object(3)}
        if kind is _CREATE:
            return ParseDict({"segment": {"name": self._word(), "type": "dynamic", "filter": written}}, kind())
        contact = {"contactId": FUZZED_CONTACT} if kind is _EXPLAIN else {}
        return ParseDict({"filter": written, **contact}, kind())

    def _text(self) -> str:
        text = self._rng.choice(self._texts)
        rng = self._rng.random()
        if rng < 0.3:
            return text
        if rng < 0.5:
            return json.dumps(self._object(4), ensure_ascii=False)
        tokens = _TOKENS.findall(text)
        for _ in range(self._rng.randrange(1, 4)):
            position = self._rng.randrange(len(tokens) + 1)
            end = position + self._rng.randrange(3)
            tokens[position:end] = self._rng.choices(self._tokens, k=self._rng.randrange(3))
        return " ".join(tokens)

    def _object(self, depth: int) -> dict[str, Any]:
        return {self._word(): self._json(depth - 1) for _ in range(self._rng.randrange(3))}

    def _json(self, depth: int) -> Any:
        rng = self._rng.random()
        if depth > 0 and rng < 0.4:
            return self._object(depth)
        if depth > 0 and rng < 0.6:
            return [self._json(depth - 1) for _ in range(self._rng.randrange(3))]
        return self._rng.choice((*_LEAVES, self._word()))

    def _word(self) -> str:
        return self._rng.choice(self._words)

    def _damaged(self, raw: bytes) -> bytes:
        damaged = bytearray(raw)
        for _ in range(self._rng.randrange(1, 4)):
            position = self._rng.randrange(len(damaged) + 1)
            match self._rng.randrange(4):
                case 0 if position < len(damaged):
                    damaged[position] ^= 1 << self._rng.randrange(8)
                case 1:
                    del damaged[position:]
                case 2:
                    damaged[position:position] = self._rng.choice(
                        (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x00", b"\xf8")
                    )
                case 3:
                    damaged += damaged[position:]
        return bytes(damaged)

    def _deep(self, kind: type[Message]) -> bytes:
        """A filter whose Struct nests about as deep as protobuf reads."""
        value = b"\x22\x00"
        for _ in range(self._rng.randrange(20, 60)):
            key = self._rng.choice((b"a", b"$not", b"$elemMatch"))
            value = _field(5, _field(1, _field(1, key) + _field(2, value)))
        struct = _field(1, _field(1, b"a") + _field(2, value))
        written = _field(1, b"contact") + _field(2, struct)
        if kind is _CREATE:
            return _field(1, _field(2, b"deep") + _field(4, written))
        return _field(kind.DESCRIPTOR.fields_by_name["filter"].number, written)


def _field(number: int, payload: bytes) -> bytes:
    length, size = len(payload), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + payload
