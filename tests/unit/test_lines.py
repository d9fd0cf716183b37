"""One line of a file is replaced, and nothing else of it, whatever happens on the way."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.lines import line_of, replace_line
from depin_orcha.types import WriteLine

KEY = "storage.allocated-disk-space"
OLD, NEW = f"{KEY}: 2.00 TB # mine", f"{KEY}: 1500.00 GB # mine"
AROUND = (
    b"\xef\xbb\xbf# M\xfcnchen \x80\r\n\t\n# " + OLD.encode() + b"\n",
    b"\nlog.level: info  \r\n\n  last line without end",
)


def call(path: Path, old: str = OLD, new: str = NEW) -> WriteLine:
    return WriteLine(str(path), KEY, old, new)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_bytes(OLD.encode().join(AROUND))
    return path


def test_every_other_byte_stays(file: Path) -> None:
    replace_line(call(file))
    assert file.read_bytes() == NEW.encode().join(AROUND)
    assert list(file.parent.iterdir()) == [file]
    replace_line(call(file, NEW, OLD))
    assert file.read_bytes() == OLD.encode().join(AROUND)


def test_what_a_killed_run_left_is_no_hindrance(file: Path) -> None:
    (file.parent / f".{file.name}.depin-orcha").symlink_to("/dev/null")
    replace_line(call(file))
    assert file.read_bytes() == NEW.encode().join(AROUND)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_the_line_keeps_its_end(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"a: 1\r\n" + OLD.encode() + end)
    replace_line(call(path))
    assert path.read_bytes() == b"a: 1\r\n" + NEW.encode() + end


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_owner_and_rights_stay(file: Path, mode: int) -> None:
    file.chmod(mode)
    if os.geteuid() == 0:
        os.chown(file, 1234, 4321)
    told, before = file.stat(), file.stat().st_ino
    replace_line(call(file))
    now = file.stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (told.st_mode, told.st_uid, told.st_gid)
    assert now.st_ino != before, "a reader has the old file or the new one, never half of it"


def test_a_link_stays_a_link(file: Path) -> None:
    link = file.parent / "link.yaml"
    link.symlink_to(file.name)
    replace_line(call(link))
    assert link.is_symlink()
    assert file.read_bytes() == NEW.encode().join(AROUND)
    replace_line(call(Path(f"/proc/{os.getpid()}/root{link}"), NEW, OLD))
    assert file.read_bytes() == OLD.encode().join(AROUND)
    assert link.is_symlink()


def test_links_in_a_circle_are_told(tmp_path: Path) -> None:
    for name, other in ("ab", "ba"):
        (tmp_path / name).symlink_to(other)
    with pytest.raises(ActuatorError, match="symbolic links"):
        replace_line(call(tmp_path / "a"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{KEY}: 2.00 TB\n", "changed meanwhile"),
        (f" {OLD}\n", "changed meanwhile"),
        (f"{OLD}\n{OLD}\n", "2 lines that set"),
        (f"{OLD}\n  '{KEY}' : 1 TB\n", "2 lines that set"),
        (f"# {OLD}\n", "no line that sets"),
        ("", "no line that sets"),
    ],
)
def test_what_is_not_as_it_was_is_left_alone(file: Path, content: str, said: str) -> None:
    file.write_text(content)
    told = file.stat()
    with pytest.raises(ActuatorError, match=said):
        replace_line(call(file))
    assert (file.read_text(), file.stat().st_ino) == (content, told.st_ino)


def test_a_file_that_is_gone_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ActuatorError, match="No such file"):
        replace_line(call(tmp_path / "config.yaml"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_a_matter_of_permission(file: Path) -> None:
    file.parent.chmod(0o555)
    file.chmod(0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(ActuatorError) as caught:
            replace_line(call(file))
    finally:
        os.seteuid(user)
        file.parent.chmod(0o755)
    assert caught.value.kind is FailureKind.PERMISSION
    assert file.read_bytes() == OLD.encode().join(AROUND)


def test_a_full_disk_keeps_the_old_file(file: Path) -> None:
    """A limit to the size of files stands for the full disk: the write fails half way."""
    content = b"x: " + b"y" * 20_000 + b"\n" + OLD.encode() + b"\n"
    file.write_bytes(content)
    program = (
        "import sys; from depin_orcha.errors import ActuatorError\n"
        "from depin_orcha.lines import replace_line; from depin_orcha.types import WriteLine\n"
        "try: replace_line(WriteLine(*sys.argv[1:]))\n"
        "except ActuatorError as error: print(error.message)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    ended = subprocess.run(
        [sys.executable, "-B", "-c", program, str(file), KEY, OLD, NEW],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large" in ended.stdout
    assert (file.read_bytes(), list(file.parent.iterdir())) == (content, [file])


@pytest.mark.parametrize("line", [f"{KEY}: 2 TB", f"{KEY} :2TB", f'"{KEY}": 2TB', f"{KEY}:"])
def test_the_line_of_a_key(line: str) -> None:
    text = f"# {KEY}: 9\r\nx.{KEY}: 1\r\n{line}\r\n{KEY}-more: 1\r\n"
    assert line_of(text, KEY, "f") == line
