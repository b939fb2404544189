"""What subprocess.Popen lets a caller say, as the kernel takes it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pyns import Container, IdMap, Namespace, Process, clone_into, run
from pyns.command import (
    Command,
    encode_arguments,
    encode_environment,
    find_candidates,
    split_arguments,
)
from pyns.steps import CloseRange, Duplicate, Step

LAST = CloseRange.LAST


@pytest.mark.parametrize(
    ("args", "shell", "executable", "expected"),
    [
        ("ls -l", False, None, ["ls -l"]),
        (b"ls", False, None, [b"ls"]),
        (Path("/bin/ls"), False, None, [Path("/bin/ls")]),
        (["ls", "-l"], False, None, ["ls", "-l"]),
        (("ls", b"-l"), False, None, ["ls", b"-l"]),
        (["ls"], False, "/bin/true", ["ls"]),
        ("ls -l", True, None, ["/bin/sh", "-c", "ls -l"]),
        (["ls", "-l"], True, None, ["/bin/sh", "-c", "ls", "-l"]),
        ("ls", True, "/bin/bash", ["/bin/bash", "-c", "ls"]),
    ],
    ids=["str", "bytes", "path", "list", "tuple", "executable", "shell", "shell list", "bash"],
)
def test_arguments_are_split_as_subprocess_does(
    args: Any, shell: bool, executable: str | None, expected: list[Any]
) -> None:
    assert split_arguments(args, shell, executable) == expected


def test_callers_list_is_not_the_one_returned() -> None:
    args = ["ls"]
    split_arguments(args, False, None).append("x")
    assert args == ["ls"]


@pytest.mark.parametrize("args", [[], ()], ids=["list", "tuple"])
def test_no_arguments_are_refused(args: Any) -> None:
    with pytest.raises(ValueError, match=r"^args is empty: its first item is the program$"):
        split_arguments(args, False, None)


def test_a_path_is_no_script_for_the_shell() -> None:
    with pytest.raises(TypeError, match=r"^path-like args is not allowed when shell is true$"):
        split_arguments(Path("/bin/ls"), True, None)


def test_arguments_are_encoded_as_file_names_are() -> None:
    args: list[Any] = ["a", b"\xff", Path("/p"), "caf\udce9", ""]
    assert encode_arguments(args) == (b"a", b"\xff", b"/p", b"caf\xe9", b"")


@pytest.mark.parametrize("argument", ["a\0", b"\0b"])
def test_a_nul_in_an_argument_is_refused(argument: Any) -> None:
    with pytest.raises(ValueError, match=r"^embedded null byte in args$"):
        encode_arguments(["x", argument])


def test_argument_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not int"):
        encode_arguments(["sleep", 5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, ()),
        ({"A": "1", "B": ""}, (b"A=1", b"B=")),
        ({b"A": b"\xff"}, (b"A=\xff",)),
        ({"A": Path("/p")}, (b"A=/p",)),
        ({"A": "x=y"}, (b"A=x=y",)),
    ],
    ids=["empty", "str", "bytes", "path", "equals sign"],
)
def test_environment_is_encoded(env: Any, expected: tuple[bytes, ...]) -> None:
    assert encode_environment(env) == expected


def test_environment_is_the_callers_when_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYNS_TEST", "caf\udce9")
    strings = encode_environment(None)
    assert b"PYNS_TEST=caf\xe9" in strings
    assert len(strings) == len(os.environ)


def test_environment_is_that_of_this_moment_while_other_threads_change_it() -> None:
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            for number in range(50):
                os.environ[f"PYNS_OTHER_{number}"] = ""
            for number in range(50):
                del os.environ[f"PYNS_OTHER_{number}"]

    def wrong(name: str) -> list[int]:
        found = []
        for number in range(500):
            os.environ[name] = f"{number}"
            if f"{name}={number}".encode() not in encode_environment(None):
                found.append(number)
        del os.environ[name]
        return found

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor() as pool:
            changing = pool.submit(change)
            try:
                assert list(pool.map(wrong, [f"PYNS_MINE_{n}" for n in range(2)])) == [[], []]
            finally:
                over.set()
            changing.result()
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"A=B": "1"}, "^illegal environment variable name$"),
        ({b"=": b""}, "^illegal environment variable name$"),
        ({"A": "\0"}, "^embedded null byte in env$"),
        ({"A\0": "1"}, "^embedded null byte in env$"),
    ],
    ids=["equals sign", "only", "nul in value", "nul in name"],
)
def test_environment_that_the_kernel_does_not_take_is_refused(env: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        encode_environment(env)


@pytest.mark.parametrize(
    ("program", "env", "expected"),
    [
        ("/bin/ls", {"PATH": "/x"}, (b"/bin/ls",)),
        ("./ls", {"PATH": "/x"}, (b"./ls",)),
        ("a/b", {"PATH": "/x"}, (b"a/b",)),
        ("ls", {"PATH": "/x:/y"}, (b"/x/ls", b"/y/ls")),
        ("ls", {b"PATH": b"/\xff"}, (b"/\xff/ls",)),
        ("ls", {"PATH": "/x::/y"}, (b"/x/ls", b"ls", b"/y/ls")),
        ("ls", {}, tuple(os.fsencode(f"{d}/ls") for d in os.defpath.split(":"))),
        (Path("ls"), {"PATH": "/x"}, (b"/x/ls",)),
    ],
    ids=["absolute", "dot", "slash", "PATH", "bytes", "empty entry", "no PATH", "path-like"],
)
def test_program_is_looked_for_in_the_path_that_it_will_have(
    program: Any, env: Any, expected: tuple[bytes, ...]
) -> None:
    assert find_candidates(program, env) == expected


def test_program_is_looked_for_in_the_callers_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/own")
    assert find_candidates("ls", None) == (b"/own/ls",)


@pytest.mark.parametrize(
    ("program", "said"),
    [("", "^the program's name is empty$"), ("l\0s", "^embedded null byte in executable$")],
    ids=["empty", "nul"],
)
def test_program_without_a_name_is_refused(program: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        find_candidates(program, {})


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({}, [CloseRange(3, LAST)]),
        ({"close_fds": False}, []),
        (
            {"stdio": (5, -1, 7), "close_fds": False},
            [Duplicate(5, 0), Duplicate(7, 2)],
        ),
        (
            {"stdio": (0, 1, 2)},
            [Duplicate(0, 0), Duplicate(1, 1), Duplicate(2, 2), CloseRange(3, LAST)],
        ),
        ({"pass_fds": ((3, 3),)}, [Duplicate(3, 3), CloseRange(4, LAST)]),
        (
            {"pass_fds": ((9, 9), (5, 5), (6, 6))},
            [
                Duplicate(5, 5),
                Duplicate(6, 6),
                Duplicate(9, 9),
                CloseRange(3, 4),
                CloseRange(7, 8),
                CloseRange(10, LAST),
            ],
        ),
        (
            {"pass_fds": ((0, 0), (4, 4))},
            [Duplicate(0, 0), Duplicate(4, 4), CloseRange(3, 3), CloseRange(5, LAST)],
        ),
        (
            {"stdio": (4, 4, 4), "pass_fds": ((4, 4),)},
            [
                Duplicate(4, 0),
                Duplicate(4, 1),
                Duplicate(4, 2),
                Duplicate(4, 4),
                CloseRange(3, 3),
                CloseRange(5, LAST),
            ],
        ),
        (
            {"pass_fds": ((2**31 - 1, 2**31 - 1),)},
            [Duplicate(2**31 - 1, 2**31 - 1), CloseRange(3, 2**31 - 2), CloseRange(2**31, LAST)],
        ),
        (
            {"pass_fds": ((7, 4), (3, 9))},
            [Duplicate(9, 3), Duplicate(4, 7), CloseRange(4, 6), CloseRange(8, LAST)],
        ),
    ],
    ids=[
        "nothing",
        "all stay",
        "stdio only",
        "stdio as it is",
        "one",
        "with gaps",
        "stdin among them",
        "the same for all",
        "the highest",
        "under other numbers",
    ],
)
def test_exactly_the_fds_that_are_asked_for_stay_open(
    fields: dict[str, Any], steps: list[Step]
) -> None:
    command = Command((b"x",), (b"/x",), (), **fields)
    assert list(command.fd_steps()) == steps


NOTHING = Container(namespaces=Namespace(0))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"preexec_fn": print}, ValueError, "preexec_fn: Python can't run in the child"),
        ({"container": "box"}, TypeError, "container='box' is not a Container"),
        ({"cwd": ""}, ValueError, "cwd is empty: give a path"),
        ({"cwd": "/a\0"}, ValueError, "cwd='/a\\x00' contains a NUL"),
        ({"pass_fds": [-1]}, ValueError, "bad value(s) in pass_fds"),
        ({"env": {"A=": "1"}}, ValueError, "illegal environment variable name"),
    ],
    ids=["preexec_fn", "container", "empty cwd", "nul in cwd", "pass_fds", "env"],
)
def test_process_refuses_what_makes_no_sense(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        Process(["true"], **options)


@pytest.mark.parametrize(
    "options",
    [
        {"user": 2**32},
        {"user": 2**32 - 1},
        {"group": 2**32},
        {"group": 2**32 - 1},
        {"extra_groups": [2**32]},
        {"process_group": 2**32},
        {"umask": 2**32},
    ],
    ids=str,
)
def test_an_id_that_the_kernel_would_cut_off_starts_nothing(options: dict[str, Any]) -> None:
    # 2**32 would be cut off to 0, and 2**32 - 1 means to stay who one is
    with pytest.raises((ValueError, OverflowError)):
        Process(["true"], **options).wait()


@pytest.mark.parametrize("options", [{"process_group": -5}, {"umask": -2}], ids=str)
def test_a_number_below_0_is_a_value_error(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name}: -[25] is out of range: -1 to "):
        Process(["/does/not/exist"], **options)


def test_process_group_in_a_new_pid_namespace_is_refused() -> None:
    said = "process_group=7: in a new PID namespace there are no groups yet. 0 makes one"
    with pytest.raises(ValueError, match=re.escape(said)):
        Process(["true"], container=Container(namespaces=Namespace.PID), process_group=7)


@pytest.mark.parametrize("option", ["user", "group", "extra_groups"])
def test_id_that_nobody_has_in_the_user_namespace_is_refused(option: str) -> None:
    box = Container(
        namespaces=Namespace.USER, uid_map=[IdMap(0, 1000, 10)], gid_map=[IdMap(0, 1000, 10)]
    )
    options: dict[str, Any] = {option: [10] if option == "extra_groups" else 10}
    with pytest.raises(ValueError, match=rf"^{option}: 10 is nobody .*_map is 0 1000 10"):
        Process(["true"], container=box, **options)


@pytest.mark.parametrize("target", [None, 1.5, "box"])
def test_target_that_is_no_container_is_refused(target: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"target={target!r} is not a Container")):
        clone_into(target, ["true"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"input": b"", "stdin": subprocess.PIPE},
            "stdin and input arguments may not both be used",
        ),
        (
            {"capture_output": True, "stdout": subprocess.PIPE},
            "stdout and stderr arguments may not be used with capture_output",
        ),
        (
            {"capture_output": True, "stderr": subprocess.DEVNULL},
            "stdout and stderr arguments may not be used with capture_output",
        ),
    ],
    ids=["stdin", "stdout", "stderr"],
)
def test_run_refuses_what_subprocess_does(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run(NOTHING, ["true"], **options)


def test_environment_of_the_caller_is_that_of_os(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYNS_TEST", "\udcff=x")
    expected = tuple(key + b"=" + value for key, value in os.environb.items())
    assert encode_environment(None) == expected
    assert b"PYNS_TEST=\xff=x" in expected
