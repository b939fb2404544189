"""Which of the candidates is executed, with what, and which error is told when none can be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns.namespaces import Namespace
from pyns.steps import Clone, Execute

Printed = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
CLONE = Clone(Namespace(0))


def program(path: Path, name: str) -> bytes:
    """Make a program that says its name."""
    path.write_text(f"#!/bin/sh\necho {name}\n")
    path.chmod(0o755)
    return os.fsencode(path)


def execute(*candidates: bytes) -> Execute:
    return Execute(candidates, (b"program",), ())


@pytest.fixture
def bad(tmp_path: Path) -> dict[int, bytes]:
    """Make a candidate for each error of execve."""
    for name in ("plain", "no_format", "empty"):
        (tmp_path / name).write_text("" if name == "empty" else "neither ELF nor #!\n")
    (tmp_path / "no_format").chmod(0o755)
    (tmp_path / "loop").symlink_to("loop")
    paths = {
        errno.ENOENT: "missing",
        errno.ENOTDIR: "plain/below",
        errno.EACCES: "plain",
        errno.ENOEXEC: "no_format",
        errno.ELOOP: "loop",
    }
    return {error: os.fsencode(tmp_path / path) for error, path in paths.items()}


def test_arguments_and_environment_arrive_as_they_are(printed: Printed) -> None:
    arguments = (b"name", b"-c", b'printf "%s|" "$0" "$@"; tr "\\0" "|" < /proc/self/environ')
    values = (b"", b"two words", b"\xff\xfe", b"'\"\n$HOME")
    environment = (b"A=1", b"EMPTY=", b"PATH=/usr/bin:/bin", b"B=\xff")
    text = printed(CLONE, Execute((b"/bin/sh",), (*arguments, *values), environment))
    assert os.fsencode(text) == b"|".join((*values, *environment, b""))


def test_argv_0_is_not_the_path(printed: Printed) -> None:
    script = (b"another name", b"-c", b"tr '\\0' '|' < /proc/$$/cmdline")
    assert printed(CLONE, Execute((b"/bin/sh",), script, ())).startswith("another name|-c|")


def test_an_empty_environment_stays_empty(printed: Printed) -> None:
    assert printed(CLONE, Execute((b"/usr/bin/env",), (b"env",), ())) == ""


def test_many_arguments_have_room(printed: Printed) -> None:
    arguments = (b"sh", b"-c", b"echo $#", b"sh") + (b"x",) * 50_000
    assert printed(CLONE, Execute((b"/bin/sh",), arguments, ())) == "50000"


def test_the_first_candidate_that_can_be_executed_is(tmp_path: Path, printed: Printed) -> None:
    first, second = program(tmp_path / "a", "first"), program(tmp_path / "b", "second")
    assert printed(CLONE, execute(first, second)) == "first"


@pytest.mark.parametrize(
    "error", [errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC, errno.ELOOP],
    ids=errno.errorcode.get,
)  # fmt: skip
def test_a_candidate_that_can_not_be_executed_gives_way_to_the_next(
    error: int, bad: dict[int, bytes], tmp_path: Path, printed: Printed
) -> None:
    found = program(tmp_path / "found", "found")
    assert printed(CLONE, execute(bad[error], found)) == "found"


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ((errno.ENOENT,), errno.ENOENT),
        ((errno.ENOTDIR,), errno.ENOTDIR),
        ((errno.EACCES,), errno.EACCES),
        ((errno.ENOEXEC,), errno.ENOEXEC),
        ((errno.ELOOP,), errno.ELOOP),
        ((errno.EACCES, errno.ENOENT), errno.EACCES),
        ((errno.ENOENT, errno.EACCES), errno.EACCES),
        ((errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOENT), errno.EACCES),
        ((errno.ENOEXEC, errno.EACCES), errno.ENOEXEC),
        ((errno.ENOTDIR, errno.ENOENT), errno.ENOENT),
        ((), errno.ENOENT),
    ],
)
def test_the_first_error_but_not_found_is_told(
    errors: tuple[int, ...], told: int, bad: dict[int, bytes], failure: Failure
) -> None:
    assert failure(CLONE, execute(*(bad[error] for error in errors))) == (1, told)


def test_a_directory_can_not_be_executed(tmp_path: Path, failure: Failure) -> None:
    assert failure(CLONE, execute(os.fsencode(tmp_path))) == (1, errno.EACCES)


def test_a_missing_interpreter_is_enoent(tmp_path: Path, failure: Failure) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert failure(CLONE, execute(os.fsencode(script))) == (1, errno.ENOENT)


def test_a_program_that_is_being_written_is_etxtbsy(tmp_path: Path, failure: Failure) -> None:
    path = tmp_path / "busy"
    path.write_bytes(Path("/bin/true").read_bytes())
    path.chmod(0o755)
    with path.open("ab"):
        assert failure(CLONE, execute(os.fsencode(path))) == (1, errno.ETXTBSY)


@pytest.mark.parametrize("where", ["argument", "environment"])
def test_a_string_that_is_too_long_is_e2big(where: str, failure: Failure) -> None:
    long = b"x" * 32 * os.sysconf("SC_PAGE_SIZE")  # MAX_ARG_STRLEN
    if where == "argument":
        step = Execute((b"/bin/true",), (b"true", long), ())
    else:
        step = Execute((b"/bin/true",), (b"true",), (b"A=" + long,))
    assert failure(CLONE, step) == (1, errno.E2BIG)
