"""A filter in plain English.

    country is US and (score is at least 50 or tags is one of lead, mql)

Each row of operators.py has the phrase of its operator. Groups inside groups are in brackets, so that a sentence has
only one meaning.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from audience_service.domain.filters.aggregates import FUNCTIONS
from audience_service.domain.filters.ast import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Expression,
    Having,
    InAudience,
    Node,
    Nor,
    Not,
    OnList,
    Or,
    RecordDate,
    Related,
    Slice,
    Suppressed,
    Then,
    children,
)
from audience_service.domain.filters.describe.expressions import describe_expression, is_compound
from audience_service.domain.filters.describe.phrases import negate
from audience_service.domain.filters.describe.values import format_count, quote, truncate
from audience_service.domain.filters.fields import display_path

_MAX_LENGTH, _MAX_EXPRESSION = 10_000, 2_000
_USUAL_JOIN = ("pk", "data.contactId")
"""The usual `on` of related records, which the description omits."""
_DATE_ORDERS = {"$eq": "", "$gt": "after ", "$gte": "at or after ", "$lt": "before ", "$lte": "at or before "}
_JOINT_LENGTH = len(" and ()")
_PLAIN_PATH = re.compile(r"[\w.$-]+")

_FormatPath = Callable[[str], str]
"""Formats a path in the record, or in an element."""


def describe(node: Node, names: Mapping[str, str]) -> str:
    """The description of a filter's parsed nodes. `names` are the audiences' names by id; without one, the id is shown.

    It has about 10,000 characters at most, and then ends with the number of omitted conditions.
    """
    writer = _Writer(names)
    phrase = writer.phrase(node, display_path)
    text = phrase.text if phrase else ""
    return f"{text} ... and {format_count(writer.omitted_count, 'more condition')}" if writer.omitted_count else text


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A field, which may be empty, and a predicate.

    `negation` is the opposite predicate, empty if only "not (...)" negates the phrase. A phrase that `is_open` needs
    brackets: without them it would absorb what follows.
    """

    subject: str
    predicate: str
    negation: str = ""
    is_open: bool = False

    @property
    def text(self) -> str:
        return f"{self.subject} {self.predicate}".lstrip()

    @property
    def clause(self) -> str:
        """The text as a clause after a noun."""
        if not self.subject and self.predicate.startswith("is "):
            return f"that {self.text}"
        return f"whose {self.text}" if self.subject else f"such that {self.text}"


class _Writer:
    """Writes phrases up to the maximum length, and counts the conditions that it omits."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._remaining = _MAX_LENGTH
        self.omitted_count = 0

    def phrase(self, node: Node, format_path: _FormatPath) -> _Phrase | None:
        """The phrase of a node, None if all of it is omitted."""
        match node:
            case And(()):
                return _Phrase("", "everyone", "no one")
            case And() | Or():
                return self._join(
                    list(_flatten(node, type(node))), "and" if isinstance(node, And) else "or", format_path
                )
            case Nor((child,)) | Not(child):
                return self._negate(child, format_path)
            case Nor(nodes):
                texts = [phrase.text for inner in nodes if (phrase := self.phrase(inner, format_path))]
                return _Phrase("", f"none of ({'; '.join(texts)})") if texts else None
            case Condition(path, operator, operand):
                return self._leaf(_path(path, format_path), operator.describe(operand))
            case ElementMatch(path, query):
                return self._element(path, format_path, self._clause(query, str, "that is an object"))
            case ElementIs(path, conditions):
                met = self._join(conditions, "and", str)
                return self._element(path, format_path, f"that {met.text}" if met else None)
            case Expression(document, is_lenient=is_lenient):
                text = truncate(describe_expression(document), _MAX_EXPRESSION)
                text = f"{text}, false if it fails" if is_lenient else text
                return self._leaf("", text, is_open=is_lenient or is_compound(document))
            case InAudience(audience_id):
                return self._leaf("", f"is in the audience {self._audience(audience_id)}")
            case OnList(member_list):
                return self._leaf("", f"is on the list of the audience {self._audience(member_list.list_id)}")
            case Related():
                return self._related(node)
            case RecordDate(path, operator, record_path, shift):
                date = f"the record's {_path(record_path, display_path)}"
                if shift:
                    side = "before" if shift.amount < 0 else "after"
                    date = f"{format_count(abs(shift.amount), shift.unit)} {side} {date}"
                return self._leaf(_path(path, format_path), f"is {_DATE_ORDERS[operator]}{date}")
            case Suppressed(channel, status):
                return self._leaf("", f"is {status} on the channel {channel}")

    def _leaf(self, subject: str, predicate: str, *, is_open: bool = False) -> _Phrase | None:
        if self._remaining <= 0:
            self.omitted_count += 1
            return None
        self._remaining -= len(subject) + len(predicate) + _JOINT_LENGTH
        return _Phrase(subject, predicate, negate(predicate), is_open)

    def _join(self, nodes: Sequence[Node], word: str, format_path: _FormatPath) -> _Phrase | None:
        phrases = [phrase for node in nodes if (phrase := self.phrase(node, format_path))]
        if len(phrases) <= 1:
            return phrases[0] if phrases else None
        texts = [f"({phrase.text})" if phrase.is_open else phrase.text for phrase in phrases]
        subject = "" if phrases[0].is_open else phrases[0].subject
        return _Phrase(subject, f" {word} ".join(texts).removeprefix(subject).lstrip(), is_open=True)

    def _negate(self, node: Node, format_path: _FormatPath) -> _Phrase | None:
        phrase = self.phrase(node, format_path)
        if phrase is None:
            return None
        if phrase.negation:
            return _Phrase(phrase.subject, phrase.negation, phrase.predicate, phrase.is_open)
        return _Phrase("", f"not ({phrase.text})")

    def _clause(self, query: Node, format_path: _FormatPath, of_all: str = "") -> str | None:
        if query == And(()):
            return of_all
        phrase = self.phrase(query, format_path)
        return phrase.clause if phrase else None

    def _element(self, path: str, format_path: _FormatPath, clause: str | None) -> _Phrase | None:
        if clause is None:
            return None
        subject = _path(path, format_path)
        self._remaining -= len(subject)
        return _Phrase(subject, f"has an element {clause}", f"has no element {clause}", is_open=True)

    def _related(self, related: Related) -> _Phrase | None:
        if isinstance(related.test, Then):
            return self._sequence(related, related.test)
        clause = self._clause(related.query, display_path)
        if clause is None:
            return None
        keys = _join_keys(related)
        records = f"{related.datatype} {{}}{keys} {clause}".rstrip()
        self._remaining -= len(records) - len(clause)
        match related.test:
            case Having():
                return self._having(related, related.test, records)
            case Slice():
                return self._slice(related, related.test, keys, clause)
        return _describe_count(related.min_count, related.max_count, records, is_open=bool(clause))

    def _slice(self, related: Related, test: Slice, keys: str, clause: str) -> _Phrase | None:
        phrase = None if test.query == And(()) else self.phrase(test.query, display_path)
        if phrase is None and test.query != And(()):
            return None
        noun = f"{related.datatype} {'record' if test.size == 1 else 'records'}{keys}"
        by = f"by {_path(test.by, display_path)}"
        self._remaining -= len(noun) + len(by)
        edge = "last" if test.is_last else "first"
        if test.size == 1 and (related.min_count, related.max_count) == (1, None):
            records = f"the {edge} {noun} {by} {clause}".rstrip()
            return _Phrase("", f"{records}: {phrase.text if phrase else 'exists'}", is_open=True)
        records = f"of the {edge} {test.size:,} {noun} {by} {clause}".rstrip()
        counted = "none" if related.max_count == 0 else _describe_bounds(related).rstrip()
        return _Phrase("", f"{records}: {counted} {phrase.clause if phrase else ''}".rstrip(), is_open=True)

    def _sequence(self, first: Related, then: Then) -> _Phrase | None:
        steps = []
        for step in first.steps:
            clause = self._clause(step.query, display_path)
            if clause is None:
                return None
            by = f"by {_path(step.at, display_path)}"
            steps.append(f"{step.datatype} {{}}{_join_keys(step)} {by} {clause}".rstrip())
        self._remaining -= sum(map(len, steps))
        window = f" within {format_count(then.within.amount, then.within.unit)}" if then.within else ""
        found, later = (
            _describe_count(step.min_count, step.max_count, text, is_open=True).text
            for step, text in zip(first.steps, steps, strict=True)
        )
        return _Phrase("", f"{found}, followed{window} by {later.removeprefix('has ')}", is_open=True)

    def _having(self, related: Related, having: Having, records: str) -> _Phrase:
        texts = []
        for aggregate in having.aggregates:
            subject = FUNCTIONS[aggregate.function].noun.format(_path(aggregate.path, display_path))
            bounds = " and ".join(bound.operator.describe(bound.operand) for bound in aggregate.bounds)
            texts.append(f"{subject} {bounds}{' or there is none' if having.or_none else ''}")
        self._remaining -= sum(map(len, texts))
        counted = "" if related.max_count is None and related.min_count <= 1 else _describe_bounds(related)
        over = f"over {counted}{records.format('record' if related.max_count == 1 else 'records')}"
        return _Phrase("", f"{over}: {', and '.join(texts)}", is_open=True)

    def _audience(self, audience_id: str) -> str:
        return quote(self._names[audience_id]) if audience_id in self._names else audience_id


def _flatten(node: Node, kind: type[Node]) -> Iterator[Node]:
    """The children of an And or Or, with nested nodes of the same kind flattened."""
    for child in children(node):
        if isinstance(child, kind) and children(child):
            yield from _flatten(child, kind)
        else:
            yield child


def _path(path: str, format_path: _FormatPath) -> str:
    name = format_path(path)
    return name if not name or _PLAIN_PATH.fullmatch(name) else quote(name)


def _join_keys(related: Related) -> str:
    join = (related.local, related.foreign)
    return "" if join == _USUAL_JOIN else f" ({display_path(join[1])} = {display_path(join[0])})"


def _describe_bounds(related: Related) -> str:
    """The phrase for the bounds on a number of related records, for use before them."""
    if related.max_count is None:
        return f"at least {related.min_count:,} "
    if related.min_count == related.max_count:
        return f"exactly {related.min_count:,} "
    if related.min_count == 0:
        return f"at most {related.max_count:,} "
    return f"at least {related.min_count:,} and at most {related.max_count:,} "


def _describe_count(min_count: int, max_count: int | None, records: str, *, is_open: bool) -> _Phrase:
    """The phrase for a number of related records."""
    if max_count == 0 and min_count == 0:
        return _Phrase("", f"has no {records.format('records')}", is_open=is_open)
    noun_phrase = records.format("record" if (max_count if max_count is not None else min_count) == 1 else "records")
    if max_count is None:
        negation = f"has no {records.format('records')}" if min_count == 1 else ""
        return _Phrase("", f"has at least {min_count:,} {noun_phrase}", negation, is_open)
    if min_count == max_count:
        return _Phrase("", f"has exactly {min_count:,} {noun_phrase}", is_open=is_open)
    bounds = f"at most {max_count:,}" if min_count == 0 else f"at least {min_count:,} and at most {max_count:,}"
    return _Phrase("", f"has {bounds} {noun_phrase}", is_open=is_open)
