"""The subjects of commits, and what no committed file contains."""

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # it starts git

ROOT = Path(__file__).parent.parent
SINCE = "2026-11-30T00:00:00+00:00"
"""Earlier commits follow no rule. A shallow clone shows those that it has."""


def test_commit_subjects_name_an_area_and_fit_72_characters() -> None:
    """`area: Imperative summary`; see CONTRIBUTING.md."""
    log = ["git", "log", "--no-merges", f"--since={SINCE}", "--format=%h %s"]
    lines = subprocess.run(log, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603
    subjects = dict(line.split(" ", 1) for line in lines)
    bad = [f"{commit} {text}" for commit, text in subjects.items() if not _is_valid(text)]
    assert bad == [], "reword them: git rebase --interactive"


def _is_valid(subject: str) -> bool:
    return len(subject) <= 72 and re.match(r'[\w, -]+: [A-Z]|Revert "', subject) is not None


def test_a_subject_is_refused_if_it_is_long_or_has_no_area() -> None:
    assert _is_valid("watch: Rescan after a definition change")
    assert not _is_valid("watch: Rescan after a definition change, " + "x" * 40)
    assert not _is_valid("Rescan after a definition change")


def test_no_file_names_a_package_registry_or_a_home() -> None:
    """Each machine has its own index and its own folders."""
    names = re.compile(rb"[p]ypi\.org|[p]ythonhosted|[r]egistry\.npmjs|[p]roxy\.golang|[/]home/\w|[/]root/|[/]Users/\w")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S607
    paths = [ROOT / name.decode() for name in tracked.split(b"\0") if name]
    assert len(paths) > 1_000
    assert [str(path.relative_to(ROOT)) for path in paths if names.search(path.read_bytes())] == []
