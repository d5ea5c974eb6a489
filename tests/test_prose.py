"""Plain words in docs, protos, docstrings and comments: the phrases of a private dialect are refused."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

DIALECT = {
    r"\btold\b": "sent, returned, reported",
    r"\btells?\b": "returns, contains, reports",
    r"\bwho (is|are|was|were) in\b": "members",
    r"\blook(s|ed)? at\b": "evaluates, reads, scans",
    r"\bwhoever\b": "name the actor",
    r"\banew\b": "again",
    r"\bparted by\b": "separated by",
    r"\bbeside\b": "next to; compared with",
    r"\bbehind\b": "after",
    r"\bin the midst\b": "during",
}
"""Each phrase, and what to write instead."""


def texts() -> Iterator[tuple[str, str]]:
    """The prose of the repository, with the file that it is in."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "clients").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        yield page.name, re.sub(r"```.*?```|`[^`\n]*`|^\|.*$", "", page.read_text(), flags=re.S | re.M)
    for proto in (ROOT / "protos").rglob("*.proto"):
        yield proto.name, re.sub(r"`[^`\n]*`", "", "\n".join(re.findall(r"//(.*)", proto.read_text())))
    modules = [path for part in ("audience_service", "bench", "clients") for path in (ROOT / part).rglob("*.py")]
    for module in modules:
        if "pb" not in module.parts:
            yield str(module.relative_to(ROOT)), re.sub(r"`[^`\n]*`", "", "\n".join(prose_of(module.read_text())))


def prose_of(source: str) -> Iterator[str]:
    """The docstrings and comments of a module."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def test_prose_is_plain() -> None:
    """Docs, protos, docstrings and comments use the words of the field."""
    found = []
    for name, text in texts():
        for pattern, instead in DIALECT.items():
            found += [f"{name}: {match[0]!r}; write: {instead}" for match in re.finditer(pattern, text, re.I)]
    assert found == []
