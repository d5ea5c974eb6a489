"""Warnings while samples are read, and how often a filter is linted."""

from concurrent.futures import Future
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import Filter, FilterCompiler, FilterWarning
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.lint.field_index import FieldProfiles
from audience_service.domain.schema.filter_linter import PendingWarnings


class CountingCompiler(FilterCompiler):
    """Counts the filters that it lints."""

    lint_count = 0

    def lint(self, *arguments: Any) -> list[FilterWarning]:
        self.lint_count += 1
        return super().lint(*arguments)


def sample(datatype: str = "contact") -> dict[str, "Future[Any]"]:
    """A sample whose records have the field `score`."""
    done: Future[Any] = Future()
    done.set_result(FieldProfiles({"data.score": FieldProfile("data.score", {"int": 1.0}, 1.0)}))
    return {datatype: done}


@pytest.fixture
def compiler() -> CountingCompiler:
    return CountingCompiler(["contact"])


def warnings(compiler: FilterCompiler, written: Filter, fields: dict[str, "Future[Any]"]) -> list[str]:
    pending = PendingWarnings(compiler.parse_filter(written), written, compiler, fields)
    return [warning.field_path for warning in pending.get(Deadline.after(5))]


def test_a_filter_is_linted_once_with_a_sample(compiler: CountingCompiler) -> None:
    """Another sample, another filter and another form of the same one are linted on their own."""
    first, second = Filter("contact", {"scor": 1}), Filter("contact", {"scor": 2})
    fields = sample()
    for written in (first, second, first, second):
        assert warnings(compiler, written, fields) == ["filter.where_json.scor"]
    assert compiler.lint_count == 2
    assert warnings(compiler, Filter("contact", {"scor": 1}, exact=False), fields) == ["filter.where.scor"]
    assert warnings(compiler, first, sample()) == ["filter.where_json.scor"]
    assert compiler.lint_count == 4


def test_the_warnings_of_large_filters_are_not_kept(compiler: CountingCompiler) -> None:
    """They would take much memory, and are rare."""
    fields, large = sample(), Filter("contact", {"scor": {"$in": [f"{n:0100}" for n in range(30)]}})
    assert warnings(compiler, large, fields) == warnings(compiler, large, fields) == ["filter.where_json.scor.$in"]
    assert compiler.lint_count == 2


def test_warnings_with_the_samples_of_other_datatypes_are_not_kept(compiler: CountingCompiler) -> None:
    """They depend on more than one sample."""
    fields, written = {**sample(), **sample("order")}, Filter("contact", {"scor": 1})
    for _ in range(2):
        assert warnings(compiler, written, fields) == ["filter.where_json.scor"]
    assert compiler.lint_count == 2
