"""Every option of subprocess.Popen means in a container what it means without, or says why not."""

from __future__ import annotations

import errno
import fcntl
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyns import Container, Namespace, Process, SpawnError, run

pytestmark = pytest.mark.usefixtures("namespaces")

# what it is asked for, a script, and what that prints
CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"bufsize": 0}, "echo x", "x\n"),
    ({"executable": "/bin/sh"}, "echo $0", "sh\n"),
    ({"stdin": subprocess.DEVNULL}, "cat", ""),
    ({"stderr": subprocess.STDOUT}, "echo x >&2", "x\n"),
    ({"stdout": subprocess.PIPE}, "echo x", "x\n"),
    ({"close_fds": True}, "! echo x >&$FD", ""),
    ({"close_fds": False}, "test -e /proc/self/fd/$FD && echo open", "open\n"),
    ({"cwd": "/proc"}, "pwd", "/proc\n"),
    ({"universal_newlines": True}, "printf 'x\\r\\n'", "x\n"),
    ({"text": True}, "printf 'x\\r\\n'", "x\n"),
    ({"encoding": "latin-1"}, "printf '\\374'", "ü"),
    ({"encoding": "ascii", "errors": "replace"}, "printf '\\374'", "\ufffd"),
    ({"restore_signals": True}, "grep SigIgn /proc/$$/status", "SigIgn:\t{fewer:016x}\n"),
    ({"restore_signals": False}, "grep SigIgn /proc/$$/status", "SigIgn:\t{ignored:016x}\n"),
    ({"start_new_session": True}, "cut -d' ' -f6 /proc/$$/stat; echo $$", "{pid}\n{pid}\n"),
    ({"process_group": 0}, "cut -d' ' -f5 /proc/$$/stat; echo $$", "{pid}\n{pid}\n"),
    # as outside, that of the caller, which has no number in here
    ({"process_group": -1}, "cut -d' ' -f5 /proc/$$/stat", "0\n"),
    ({"process_group": None}, "cut -d' ' -f5 /proc/$$/stat", "0\n"),
    ({"umask": 0o27}, "umask", "0027\n"),
    ({"pipesize": 4096}, "echo x", "x\n"),
    ({"startupinfo": None, "creationflags": 0, "preexec_fn": None}, "echo x", "x\n"),
]
AS_ROOT: list[tuple[dict[str, Any], str, str]] = [
    ({"user": 65534}, "id -u; id -g", "65534\n0\n"),
    ({"user": "root"}, "id -u", "0\n"),
    ({"group": 65534, "extra_groups": [1, 2]}, "id -u; id -g; id -G", "0\n65534\n65534 1 2\n"),
    ({"group": "root", "extra_groups": ["root"]}, "id -g; id -G", "0\n0\n"),
]
# they have tests of their own
ELSEWHERE = {"args", "env", "pass_fds", "shell"}


def test_there_is_no_other_option() -> None:
    tested = {name for options, _, _ in CASES + AS_ROOT for name in options} | ELSEWHERE
    assert tested == inspect.signature(subprocess.Popen).parameters.keys()


@pytest.fixture(params=[False, True], ids=["plain", "init"])
def box(request: pytest.FixtureRequest) -> Container:
    return Container(init=request.param)


@contextmanager
def inheritable() -> Iterator[int]:
    fd = os.open("/", os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        yield fd
    finally:
        os.close(fd)


def said_by(box: Container, options: dict[str, Any], script: str) -> str:
    with inheritable() as fd:
        env = {**os.environ, "FD": str(fd)}
        done = run(box, ["sh", "-c", script], env=env, **{"stdout": subprocess.PIPE, **options})
    return done.stdout if isinstance(done.stdout, str) else done.stdout.decode()


def expected_of(box: Container, text: str) -> str:
    status = Path("/proc/self/status").read_text()
    ignored = int(re.findall(r"^SigIgn:\s*(\w+)", status, re.MULTILINE)[0], 16)
    python_s = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    return text.format(pid=2 if box.init else 1, ignored=ignored, fewer=ignored & ~python_s)


@pytest.mark.parametrize(("options", "script", "expected"), CASES, ids=repr)
def test_option(box: Container, options: dict[str, Any], script: str, expected: str) -> None:
    assert said_by(box, options, script) == expected_of(box, expected)


@pytest.mark.usefixtures("privileged")
@pytest.mark.parametrize(("options", "script", "expected"), AS_ROOT, ids=repr)
def test_option_of_root(
    box: Container, options: dict[str, Any], script: str, expected: str
) -> None:
    assert said_by(box, options, script) == expected


def test_shell(box: Container) -> None:
    done = run(box, "echo $0 $((1 + 1))", shell=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "/bin/sh 2\n"


def test_env(box: Container) -> None:
    done = run(box, ["/usr/bin/env"], env={b"A": b"1", b"B": b"\xff"}, stdout=subprocess.PIPE)
    assert done.stdout == b"A=1\nB=\xff\n"


def test_pipesize(box: Container) -> None:
    with Process(["true"], container=box, stdout=subprocess.PIPE, pipesize=8192) as process:
        assert process.stdout is not None
        assert fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ) == 8192


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preexec_fn": print}, "^preexec_fn: Python can't run in the child"),
        ({"startupinfo": object()}, "^startupinfo is only supported on Windows"),
        ({"creationflags": 1}, "^creationflags is only supported on Windows"),
        ({"process_group": 5}, "^process_group=5: in a new PID namespace"),
    ],
    ids=["preexec_fn", "startupinfo", "creationflags", "process_group"],
)
def test_refused(box: Container, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Process(["true"], container=box, **options)


def test_a_session_of_the_container_has_the_process_group() -> None:
    box = Container(namespaces=Namespace(0))
    args = ["sh", "-c", "cut -d' ' -f5 /proc/$$/stat; echo $$"]
    for led, terminal in (replace(box, new_session=True), False), (box, True):
        done = run(
            led,
            args,
            terminal=terminal,
            process_group=0,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        group, pid = done.stdout.split()
        assert group == pid
    # what subprocess itself is asked for twice, it refuses
    with pytest.raises(PermissionError, match="It leads a session"):
        run(box, ["true"], process_group=0, start_new_session=True)


class TestPassFds:
    """A list keeps the numbers, a mapping says which they are inside."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> Iterator[list[int]]:
        """Open five files, whose content is their place in the list."""
        with ExitStack() as opened:
            fds = []
            for content in range(5):
                path = tmp_path / str(content)
                path.write_text(f"{content}\n")
                fds.append(os.open(path, os.O_RDONLY))
                opened.callback(os.close, fds[-1])
            yield fds

    def contents(self, box: Container, fds: Any, numbers: list[int], **options: Any) -> str:
        # by /proc: a file's offset is shared by all who have it
        script = 'for fd; do cat "/proc/self/fd/$fd"; done; echo /proc/self/fd/*'
        args = ["sh", "-c", script, "sh", *map(str, numbers)]
        *said, names = run(
            box, args, pass_fds=fds, stdout=subprocess.PIPE, text=True, **options
        ).stdout.splitlines()
        # the listing itself has one more, the lowest that is free
        there = {int(name.rpartition("/")[2]) for name in names.split()}
        wanted = {0, 1, 2, *numbers}
        assert there == wanted | {min(set(range(50)) - wanted)}
        return "".join(said)

    def test_list(self, box: Container, files: list[int]) -> None:
        assert self.contents(box, files[:3], files[:3]) == "012"

    def test_mapping(self, box: Container, files: list[int]) -> None:
        a, b, *_ = files
        assert self.contents(box, {3: b, 40: a, 41: a}, [3, 40, 41]) == "100"

    def test_numbers_of_each_other(self, box: Container, files: list[int]) -> None:
        a, b, c, d, e = files
        numbers = {a: b, b: c, c: d, d: a, e: e}
        assert self.contents(box, numbers, files) == "12304"

    def test_numbers_of_what_pyns_opens(self, box: Container, files: list[int]) -> None:
        # the lowest that are free: the pipe for stdout, init's files, the parent's pidfd
        wanted = [n for n in range(3, 40) if n not in files]
        numbers = dict.fromkeys(wanted, files[2])
        assert self.contents(box, numbers, wanted) == "2" * len(wanted)

    def test_stdin_by_number(self, box: Container, files: list[int]) -> None:
        done = run(box, ["cat"], pass_fds={0: files[3]}, stdout=subprocess.PIPE)
        assert done.stdout == b"3\n"

    def test_stream_of_the_caller_that_is_replaced(self, box: Container, tmp_path: Path) -> None:
        # stdin goes on as 4 and stdout as 5, though both are something else inside
        script = (
            "import sys; from pyns import *\n"
            f"box = Container(init={box.init})\n"
            "run(box, ['sh', '-c', 'cat <&4 >&5; cat'], pass_fds={4: 0, 5: 1},"
            " stdin=open(sys.argv[1]), stdout=2)\n"
        )
        (tmp_path / "file").write_text("file")
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, tmp_path / "file"],
            input=b"caller's",
            capture_output=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == (b"caller's", b"file")

    def test_caller_s_streams_change_places(self, box: Container) -> None:
        script = (
            "from pyns import *\n"
            f"box = Container(init={box.init})\n"
            "run(box, ['sh', '-c', 'echo out; echo err >&2'], pass_fds={1: 2, 2: 1})\n"
        )
        done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (b"err\n", b"out\n")

    def test_two_sources(self, box: Container, files: list[int]) -> None:
        with pytest.raises(ValueError, match="pass_fds says what 0 is, and so does stdin"):
            run(box, ["cat"], pass_fds={0: files[0]}, stdin=subprocess.DEVNULL)

    def test_number_above_the_limit(self, files: list[int]) -> None:
        box = Container(namespaces=Namespace.UTS, rlimits={"nofile": 30})
        assert self.contents(box, {29: files[4]}, [29]) == "4"
        with pytest.raises(SpawnError, match="RLIMIT_NOFILE") as caught:
            run(box, ["true"], pass_fds={30: files[4]})
        assert (caught.value.step.kind, caught.value.errno) == ("duplicate", errno.EBADF)

    def test_warns_that_it_overrides_close_fds(self, box: Container, files: list[int]) -> None:
        with pytest.warns(RuntimeWarning, match="pass_fds overriding close_fds"):
            run(box, ["true"], pass_fds={7: files[0]}, close_fds=False)
