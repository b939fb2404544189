"""Blocks that marshal never makes: EINVAL and no child, never a read or write out of bounds.

Each is given to the shim by an interpreter of its own, which a crash would end.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from pyns._shim import lib
from pyns.marshal import _STEP

Python = Callable[..., str]
RECORD = _STEP.size
READ_STRINGS = [
    "SET_HOSTNAME",
    "SET_DOMAINNAME",
    "NEW_ROOT",
    "OPEN_TREE",
    "NEW_MOUNT",
    "ATTACH",
    "CHANGE_DIRECTORY",
    "SET_OOM_SCORE_ADJ",
    "SET_EXEC_LABEL",
    "ALLOW_PATH",
    "MAKE_DIRECTORY",
    "MAKE_SYMLINK",
    "WRITE_FILE",
    "OPEN_WITHIN",
    "COPY_MODE",
    "MASK",
    "MAKE_READ_ONLY",
    "EXECUTE_INIT",
    "OPEN_TERMINAL",
]
TWO_STRINGS = ["MAKE_SYMLINK", "COPY_MODE", "OPEN_TERMINAL"]
KINDS = sorted(
    n.removeprefix("STEP_") for n in dir(lib) if n.startswith("STEP_") and n != "STEP_END"
)


def record(
    kind: str | int, *, fd: int = -1, text: int = 0, count: int = 0, flags: int = 0, value: int = 0
) -> bytes:
    number = kind if isinstance(kind, int) else getattr(lib, f"STEP_{kind}")
    return _STEP.pack(number, fd, text, count, flags, value)


TRUE = b"/bin/true\0true\0"
CLONE = record("CLONE")
EXECUTE = record("EXECUTE", count=2, flags=1, value=1)
WELL_FORMED = CLONE + EXECUTE

SPAWN = """
    steps, text = (bytes.fromhex(argument) for argument in sys.argv[1:3])
    report = ffi.new("struct report *")
    shift = int(sys.argv[3])
    memory = ffi.new("char[]", bytes(shift) + steps)
    result = lib.spawn(memory + shift, len(steps), text, len(text), 0, report)
    print(result if result else (report.index, report.error))
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED)
        print("a child")
    except ChildProcessError:
        print("no child")
"""


@pytest.fixture
def spawned(python: Python) -> Callable[..., str]:
    """Return a function: what the shim says of two blocks, and whether there was a child."""

    def run(steps: bytes, text: bytes = TRUE, *, shift: int = 0) -> str:
        return python(SPAWN, steps.hex(), text.hex(), shift)

    return run


def test_the_well_formed_plan_that_the_others_are_made_of_runs(spawned: Callable[..., str]) -> None:
    assert spawned(WELL_FORMED) == "(1, 0)\na child"


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        pytest.param(b"", b"", id="empty"),
        pytest.param(b"", TRUE, id="no steps"),
        pytest.param(WELL_FORMED[:-1], TRUE, id="a byte short"),
        pytest.param(WELL_FORMED + b"\0", TRUE, id="a byte long"),
        pytest.param(WELL_FORMED + bytes(RECORD - 1), TRUE, id="most of a record long"),
        pytest.param(CLONE[:1], TRUE, id="less than a record"),
        pytest.param(EXECUTE, TRUE, id="no clone"),
        pytest.param(CLONE, TRUE, id="no execute"),
        pytest.param(WELL_FORMED + record("NEW_SESSION"), TRUE, id="a step after execute"),
        pytest.param(CLONE + EXECUTE + EXECUTE, TRUE, id="execute twice"),
        pytest.param(record("BIRTH_IN_CGROUP", fd=0) + EXECUTE, TRUE, id="birth but no clone"),
        pytest.param(record("NEW_SESSION") + WELL_FORMED, TRUE, id="a step before the clone"),
        pytest.param(CLONE + record(0) + EXECUTE, TRUE, id="kind 0"),
        pytest.param(CLONE + record(lib.STEP_END) + EXECUTE, TRUE, id="kind past the last"),
        pytest.param(CLONE + record(2**32 - 1) + EXECUTE, TRUE, id="greatest kind"),
        pytest.param(WELL_FORMED, b"", id="no text"),
        pytest.param(WELL_FORMED, TRUE[:-1], id="no NUL at the end"),
        pytest.param(WELL_FORMED, b"x" * 4096, id="no NUL at all"),
        pytest.param(
            CLONE + record("EXECUTE", text=len(TRUE), count=1, flags=1), TRUE, id="offset at end"
        ),
        pytest.param(
            CLONE + record("EXECUTE", text=2**32 - 1, count=1, flags=1), TRUE, id="offset beyond"
        ),
        pytest.param(CLONE + record("EXECUTE", count=3, flags=1), TRUE, id="count beyond"),
        pytest.param(record("CLONE", flags=0x200) + EXECUTE, TRUE, id="CLONE_FS"),
        pytest.param(record("CLONE", flags=0x400) + EXECUTE, TRUE, id="CLONE_FILES"),
        pytest.param(CLONE + record("EXECUTE", count=2**32 - 1), TRUE, id="greatest count"),
        pytest.param(CLONE + record("EXECUTE", flags=1), TRUE, id="candidates, no count"),
        pytest.param(CLONE + record("EXECUTE", count=2, flags=3), TRUE, id="candidates > count"),
        pytest.param(CLONE + record("EXECUTE", count=2, value=3), TRUE, id="arguments > count"),
        pytest.param(
            CLONE + record("EXECUTE", count=2, flags=1, value=2), TRUE, id="their sum > count"
        ),
        pytest.param(
            CLONE + record("EXECUTE", count=2, flags=2**64 - 1, value=3), TRUE, id="sum overflows"
        ),
        pytest.param(
            CLONE + record("EXECUTE", count=2, flags=1, value=2**64 - 1), TRUE, id="huge arguments"
        ),
        pytest.param(CLONE + record("SET_GROUPS", value=4) + EXECUTE, TRUE, id="groups beyond"),
        pytest.param(
            CLONE + record("SET_GROUPS", text=12, value=1) + EXECUTE, TRUE, id="groups half beyond"
        ),
        pytest.param(
            CLONE + record("SET_GROUPS", value=2**62) + EXECUTE, TRUE, id="groups overflow"
        ),
        pytest.param(
            CLONE + record("WRITE_FILE", count=1, value=6) + EXECUTE, TRUE, id="content beyond"
        ),
        pytest.param(
            CLONE + record("WRITE_FILE", count=1, value=2**64 - 1) + EXECUTE,
            TRUE,
            id="content overflows",
        ),
        pytest.param(
            CLONE + record("WRITE_FILE", count=2, value=1) + EXECUTE, TRUE, id="content after all"
        ),
        pytest.param(
            CLONE + record("SET_GROUPS", text=16) + EXECUTE, TRUE, id="no groups, beyond the text"
        ),
        pytest.param(
            CLONE + record("INSTALL_FILTER", value=16) + EXECUTE, TRUE, id="filter beyond"
        ),
        pytest.param(
            CLONE + record("INSTALL_FILTER", value=2**64 - 8) + EXECUTE, TRUE, id="filter overflows"
        ),
        pytest.param(CLONE + record("SET_AFFINITY", value=16) + EXECUTE, TRUE, id="CPUs beyond"),
        pytest.param(
            CLONE + record("SET_EXEC_LABEL", text=10, count=1) + EXECUTE, TRUE, id="no label"
        ),
        pytest.param(CLONE + record("CREATE_RULESET", value=24) + EXECUTE, TRUE, id="rules beyond"),
        pytest.param(CLONE + record("SET_RLIMIT") + EXECUTE, TRUE, id="rlimit half beyond"),
        pytest.param(
            CLONE + record("SET_RLIMIT", text=2**32 - 1) + EXECUTE, TRUE, id="rlimit beyond"
        ),
    ],
)
def test_a_malformed_plan_is_einval_and_starts_nothing(
    steps: bytes, text: bytes, spawned: Callable[..., str]
) -> None:
    assert spawned(steps, text) == f"{-errno.EINVAL}\nno child"


@pytest.mark.parametrize("kind", KINDS)
def test_a_string_beyond_the_text_is_einval_for_every_kind(
    kind: str, spawned: Callable[..., str]
) -> None:
    beyond = record(kind, text=len(TRUE), count=1)
    first = (
        beyond + WELL_FORMED if kind in ("BIRTH_IN_CGROUP", "CLONE") else CLONE + beyond + EXECUTE
    )
    assert spawned(first) == f"{-errno.EINVAL}\nno child"


@pytest.mark.parametrize("kind", READ_STRINGS)
def test_a_kind_that_reads_a_string_needs_one(kind: str, spawned: Callable[..., str]) -> None:
    for text in (0, 2**32 - 1):
        steps = CLONE + record(kind, text=text) + EXECUTE
        assert spawned(steps) == f"{-errno.EINVAL}\nno child"


@pytest.mark.parametrize("kind", TWO_STRINGS)
def test_a_kind_that_reads_two_strings_needs_two(kind: str, spawned: Callable[..., str]) -> None:
    steps = CLONE + record(kind, text=10, count=1) + EXECUTE
    assert spawned(steps) == f"{-errno.EINVAL}\nno child"


@pytest.mark.parametrize("shift", [1, 4])
def test_records_that_are_not_aligned_are_einval(shift: int, spawned: Callable[..., str]) -> None:
    assert spawned(WELL_FORMED, shift=shift) == f"{-errno.EINVAL}\nno child"


@pytest.mark.parametrize("kind", ["BIRTH_IN_CGROUP", "CLONE"])
def test_a_step_of_the_parent_s_after_the_clone_is_reported_as_einval(
    kind: str, spawned: Callable[..., str]
) -> None:
    assert spawned(CLONE + record(kind) + EXECUTE) == f"(1, {errno.EINVAL})\nno child"


def test_execute_with_no_strings_at_all_finds_no_program(spawned: Callable[..., str]) -> None:
    assert spawned(CLONE + record("EXECUTE"), b"") == f"(1, {errno.ENOENT})\nno child"


@pytest.mark.usefixtures("root_only")
def test_a_key_without_a_value_is_not_read(spawned: Callable[..., str]) -> None:
    steps = CLONE + record("NEW_MOUNT", count=2) + record("EXECUTE", text=10)
    assert spawned(steps, b"nosuchfs\0\0") == f"(1, {errno.ENODEV})\nno child"


@pytest.mark.parametrize("size", [1, 7])
def test_a_filter_of_half_an_instruction_is_not_cut_off(
    size: int, spawned: Callable[..., str]
) -> None:
    text = bytes(size) + TRUE
    execute = record("EXECUTE", text=size, count=2, flags=1, value=1)
    steps = CLONE + record("INSTALL_FILTER", value=size) + execute
    assert spawned(steps, text) == f"(1, {errno.EINVAL})\nno child"
