"""Files that commands write: complete or absent, with a count of what was written so far."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from audience_service.cli.output import note_console

_T = TypeVar("_T")
_STEP = 500
"""Items between two updates of the number on the terminal."""


@contextmanager
def write_file(path: Path) -> Iterator[Path]:
    """A new path to write to. It becomes `path` if the block succeeds, and is removed if it fails.

    Raises ClickException if the file cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def count_progress(description: str, *, quiet: bool) -> Iterator[Callable[[Iterable[_T]], Iterator[_T]]]:
    """A function that passes items on and shows their number on a terminal meanwhile."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} {task.description}", markup=False))
    with Progress(*columns, TimeElapsedColumn(), console=note_console(quiet=quiet), transient=True) as progress:
        task = progress.add_task(description, total=None)

        def pass_on(items: Iterable[_T]) -> Iterator[_T]:
            count = 0
            for count, item in enumerate(items, 1):
                if count % _STEP == 0:
                    progress.update(task, completed=count)
                yield item
            progress.update(task, completed=count)

        yield pass_on
