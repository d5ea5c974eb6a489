"""The words of docs/glossary.md, held over the names of code and protos."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

EXCEPTIONS = {
    "place": "targeting and identifiers are about places on a map",
    "cell": "a cell of a CSV file",
    "words": "words of text: names of places, reserved words, consent words",
    "round": "Python's function, and MongoDB's $round",
}
"""Words that have another meaning in some modules, with that meaning."""


def retired_words() -> set[str]:
    """The words in code style in the last column of the glossary's tables."""
    rows = re.findall(r"^\|.*\| ([^|]*) \|$", (ROOT / "docs/glossary.md").read_text(), re.M)
    return {word for row in rows for word in re.findall(r"`(\w+)`", row)}


def python_names() -> Iterator[tuple[str, str]]:
    """Every name that the service defines, with its module."""
    for path in sorted((ROOT / "audience_service").rglob("*.py")):
        if "pb" in path.parts:
            continue
        module = str(path.relative_to(ROOT))
        yield module, path.stem
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                    yield module, name
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                    yield module, name


def proto_names() -> Iterator[tuple[str, str]]:
    """Every field, message, enum and RPC of the contract, with its file."""
    for path in sorted((ROOT / "protos").rglob("*.proto")):
        code = re.sub(r"//.*", "", path.read_text())
        for name in re.findall(r"\b(\w+) = \d+", code) + re.findall(r"\b(?:message|enum|rpc|service) (\w+)", code):
            yield path.name, name


def words(name: str) -> set[str]:
    """The words of a name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_no_name_has_a_word_that_the_glossary_replaced() -> None:
    """One word for one concept: the glossary says which."""
    retired = retired_words() - EXCEPTIONS.keys()
    assert len(retired) > 5
    found = {f"{where}: {name}" for where, name in (*python_names(), *proto_names()) if words(name) & retired}
    assert sorted(found) == []


def test_each_exception_is_a_word_of_the_glossary() -> None:
    """An exception for a word that nothing refuses can go."""
    assert EXCEPTIONS.keys() <= retired_words()
