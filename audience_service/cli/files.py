"""Files that commands write: complete or absent, with a count of what was written so far."""

import csv
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from audience_service.cli.output import note_console

_T = TypeVar("_T")
_STEP = 500
"""Items between two updates of the number on the terminal."""


def refuse_same_file(files: Mapping[str, Path | None]) -> None:
    """Raise UsageError if two of the options that name files name the same: one would replace the other."""
    options: dict[str, str] = {}
    for option, path in files.items():
        if path:
            other = options.setdefault(os.path.realpath(path), option)
            if other != option:
                raise click.UsageError(f"{option} and {other} are the same file; name two files")


@contextmanager
def write_file(path: Path) -> Iterator[Path]:
    """A new path to write to. It becomes `path` if the block succeeds, and is removed if it fails.

    A file that exists keeps its mode, and a link its place. A device or a pipe, such as /dev/stdout, is written to
    directly. Raises ClickException if the file cannot be written.
    """
    part = None
    try:
        if path.exists() and (not path.is_file() or path.is_relative_to("/dev")):
            yield path
            return
        target = path.resolve()
        mode = target.stat().st_mode if target.exists() else 0o666 & ~_read_umask()
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
        os.close(descriptor)
        part = Path(name)
        yield part
        part.chmod(mode)
        part.replace(target)
    except BrokenPipeError:
        raise  # the reader of a pipe has read enough
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
    finally:
        if part:
            part.unlink(missing_ok=True)


@contextmanager
def write_csv(path: Path) -> Iterator[Any]:
    """A writer of a CSV file, which appears if the block succeeds. Raises ClickException as write_file does."""
    with write_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        yield csv.writer(file)


def _read_umask() -> int:
    """The mode bits that new files do not get. The system shows them only to those who set them."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def count_progress(description: str, *, quiet: bool) -> Iterator[Callable[[Iterable[_T]], Iterator[_T]]]:
    """A function that passes items on and shows their number on a terminal meanwhile."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} {task.description}", markup=False))
    console = note_console(quiet=quiet)
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.file.isatty())
    with bar as progress:
        task = progress.add_task(description, total=None)

        def pass_on(items: Iterable[_T]) -> Iterator[_T]:
            count = 0
            for count, item in enumerate(items, 1):
                if count % _STEP == 0:
                    progress.update(task, completed=count)
                yield item
            progress.update(task, completed=count)

        yield pass_on
