"""A filter in plain English.

    country is US and (score is at least 50 or tags is one of lead, mql)

Each operator says itself what it means (operators.py). What is joined inside something joined stands in brackets, so
that a sentence reads one way only.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from audience_service.domain.filters.fields import written_path
from audience_service.domain.filters.nodes import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Expression,
    InAudience,
    Node,
    Nor,
    Not,
    OnList,
    Or,
    Related,
    Suppressed,
    children,
)
from audience_service.domain.filters.words.expressions import expression_words, is_compound
from audience_service.domain.filters.words.phrases import denied
from audience_service.domain.filters.words.values import counted, cut, quoted

_MAX_LENGTH, _MAX_EXPRESSION = 10_000, 2_000
_USUAL_JOIN = ("pk", "data.contactId")
"""How related records name the contact that they are of, which goes without saying."""
_JOINT = len(" and ()")
_PLAIN_PATH = re.compile(r"[\w.-]+")

_Named = Callable[[str], str]
"""How a path is written: in the record, or in an element."""


def in_words(node: Node, names: Mapping[str, str]) -> str:
    """What a filter says, from its nodes as parsed; `names` are those of audiences by id, which stands where none is.

    About 10,000 characters at most; the conditions left out are counted at the end.
    """
    writer = _Writer(names)
    phrase = writer.phrase(node, written_path)
    text = phrase.text if phrase else ""
    return f"{text} ... and {counted(writer.omitted, 'more condition')}" if writer.omitted else text


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A field, or nothing, and what is said of it.

    `opposite` is the predicate that denies it, empty where only "not (...)" does. A phrase is `open` if it would take
    in what is joined to it.
    """

    subject: str
    predicate: str
    opposite: str = ""
    open: bool = False

    @property
    def text(self) -> str:
        return f"{self.subject} {self.predicate}".lstrip()

    @property
    def clause(self) -> str:
        """The text as it stands behind a noun."""
        return f"whose {self.text}" if self.subject else f"such that {self.text}"


class _Writer:
    """Writes while there is room, and counts the conditions that find none."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._left = _MAX_LENGTH
        self.omitted = 0

    def phrase(self, node: Node, named: _Named) -> _Phrase | None:
        """The phrase of a node, None where nothing of it found room."""
        match node:
            case And(()):
                return _Phrase("", "everyone", "no one")
            case And() | Or():
                return self._joined(list(_flat(node, type(node))), "and" if isinstance(node, And) else "or", named)
            case Nor((child,)) | Not(child):
                return self._denied(child, named)
            case Nor(nodes):
                texts = [phrase.text for inner in nodes if (phrase := self.phrase(inner, named))]
                return _Phrase("", f"none of ({'; '.join(texts)})") if texts else None
            case Condition(path, operator, operand):
                return self._leaf(_path(path, named), operator.words(operand))
            case ElementMatch(path, query):
                return self._element(path, named, self._clause(query, str, "that is an object"))
            case ElementIs(path, conditions):
                met = self._joined(conditions, "and", str)
                return self._element(path, named, f"that {met.text}" if met else None)
            case Expression(document):
                text = cut(expression_words(document), _MAX_EXPRESSION)
                return self._leaf("", text, is_open=is_compound(document))
            case InAudience(audience_id):
                return self._leaf("", f"is in the audience {self._audience(audience_id)}")
            case OnList(contacts):
                return self._leaf("", f"is on the list of the audience {self._audience(contacts.audience_id)}")
            case Related():
                return self._related(node)
            case Suppressed(channel, status):
                return self._leaf("", f"is {status} on the channel {channel}")

    def _leaf(self, subject: str, predicate: str, *, is_open: bool = False) -> _Phrase | None:
        if self._left <= 0:
            self.omitted += 1
            return None
        self._left -= len(subject) + len(predicate) + _JOINT
        return _Phrase(subject, predicate, denied(predicate), is_open)

    def _joined(self, nodes: Sequence[Node], word: str, named: _Named) -> _Phrase | None:
        phrases = [phrase for node in nodes if (phrase := self.phrase(node, named))]
        if len(phrases) <= 1:
            return phrases[0] if phrases else None
        texts = [f"({phrase.text})" if phrase.open else phrase.text for phrase in phrases]
        subject = "" if phrases[0].open else phrases[0].subject
        return _Phrase(subject, f" {word} ".join(texts).removeprefix(subject).lstrip(), open=True)

    def _denied(self, node: Node, named: _Named) -> _Phrase | None:
        phrase = self.phrase(node, named)
        if phrase is None:
            return None
        if phrase.opposite:
            return _Phrase(phrase.subject, phrase.opposite, phrase.predicate, phrase.open)
        return _Phrase("", f"not ({phrase.text})")

    def _clause(self, query: Node, named: _Named, of_all: str = "") -> str | None:
        if query == And(()):
            return of_all
        phrase = self.phrase(query, named)
        return phrase.clause if phrase else None

    def _element(self, path: str, named: _Named, clause: str | None) -> _Phrase | None:
        if clause is None:
            return None
        subject = _path(path, named)
        self._left -= len(subject)
        return _Phrase(subject, f"has an element {clause}", f"has no element {clause}", open=True)

    def _related(self, related: Related) -> _Phrase | None:
        clause = self._clause(related.query, written_path)
        if clause is None:
            return None
        join = (related.local, related.foreign)
        keys = "" if join == _USUAL_JOIN else f" ({written_path(join[1])} = {written_path(join[0])})"
        records = f"{related.datatype} {{}}{keys} {clause}".rstrip()
        self._left -= len(records) - len(clause)
        return _counted_records(related.least, related.most, records, is_open=bool(clause))

    def _audience(self, audience_id: str) -> str:
        return quoted(self._names[audience_id]) if audience_id in self._names else audience_id


def _flat(node: Node, kind: type[Node]) -> Iterator[Node]:
    """What a node of a kind joins, through those of the same kind inside it."""
    for child in children(node):
        if isinstance(child, kind) and children(child):
            yield from _flat(child, kind)
        else:
            yield child


def _path(path: str, named: _Named) -> str:
    name = named(path)
    return name if not name or _PLAIN_PATH.fullmatch(name) else quoted(name)


def _counted_records(least: int, most: int | None, records: str, *, is_open: bool) -> _Phrase:
    """So many records."""
    if most == 0 and least == 0:
        return _Phrase("", f"has no {records.format('records')}", open=is_open)
    several = records.format("record" if (most if most is not None else least) == 1 else "records")
    if most is None:
        opposite = f"has no {records.format('records')}" if least == 1 else ""
        return _Phrase("", f"has at least {least:,} {several}", opposite, is_open)
    if least == most:
        return _Phrase("", f"has exactly {least:,} {several}", open=is_open)
    bounds = f"at most {most:,}" if least == 0 else f"at least {least:,} and at most {most:,}"
    return _Phrase("", f"has {bounds} {several}", open=is_open)
