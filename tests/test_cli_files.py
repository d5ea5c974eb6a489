"""Files that commands write."""

import os
import threading
from pathlib import Path

import click
import pytest

from audience_service.cli.files import write_file


def write(path: Path, text: str) -> None:
    with write_file(path) as part:
        part.write_text(text)


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, "first")
    with pytest.raises(ZeroDivisionError), write_file(path) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_private_until_it_is_complete(tmp_path: Path) -> None:
    """Then a new one has the mode of every new file, and an old one keeps its own."""
    path = tmp_path / "out"
    (tmp_path / "plain").touch()
    with write_file(path) as part:
        assert part.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    path.chmod(0o640)
    write(path, "again")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_of_somebody_else_is_not_followed(tmp_path: Path) -> None:
    """A name that others can foresee is not the file's until it is complete."""
    victim = tmp_path / "victim"
    victim.write_text("safe")
    (tmp_path / "out.part").symlink_to(victim)
    write(tmp_path / "out", "text")
    assert (victim.read_text(), (tmp_path / "out").read_text()) == ("safe", "text")


def test_a_link_that_the_user_names_stays_a_link(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    write(link, "text")
    assert (link.is_symlink(), target.read_text()) == (True, "text")


def test_a_pipe_and_a_device_are_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    write(pipe, "text")
    reader.join(timeout=40)
    assert (received, pipe.is_fifo()) == (["text"], True)
    write(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match=r"none/out cannot be written: No such file"):
        write(tmp_path / "none" / "out", "text")
