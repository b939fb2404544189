"""Errors say what failed, and survive a trip to another process."""

from __future__ import annotations

import copy
import errno
import os
import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

from pyns import CgroupError, Namespace, NamespaceError, Plan, SpawnError
from pyns.command import Command
from pyns.errors import NotPermittedError, in_words
from pyns.spawn import explain
from pyns.steps import (
    BirthInCgroup,
    ChangeDirectory,
    Clone,
    EnterCgroup,
    Execute,
    LoopbackUp,
    SetHostname,
    SetUid,
)

Trip = Callable[[Any], Any]
TRIPS: list[Any] = [
    *(
        pytest.param(
            lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)),
            id=f"pickle-{protocol}",
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
    pytest.param(lambda error: pickle.loads(ForkingPickler.dumps(error)), id="multiprocessing"),
    pytest.param(copy.copy, id="copy"),
    pytest.param(copy.deepcopy, id="deepcopy"),
]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errno.EACCES, "Permission denied (EACCES)"),
        (errno.EPERM, "Operation not permitted (EPERM)"),
        # two names have this number each; the first is the one of the man pages
        (errno.EOPNOTSUPP, "Operation not supported (EOPNOTSUPP)"),
        (errno.EAGAIN, "Resource temporarily unavailable (EAGAIN)"),
        (errno.EDEADLK, "Resource deadlock avoided (EDEADLK)"),
        (0, "Success (0)"),
        (4000, f"{os.strerror(4000)} (4000)"),
    ],
)
def test_errno_is_said_in_words_and_by_name(error: int, said: str) -> None:
    assert in_words(error) == said


def spawn_error(hint: str | None = "Run as root") -> SpawnError:
    return SpawnError(errno.EPERM, Clone(Namespace.PID | Namespace.NET), 0, 7, hint)


def cgroup_error(hint: str | None = "Ask for less") -> CgroupError:
    return CgroupError(
        errno.EINVAL,
        "write '1' to /cg/pids.max",
        controller="pids",
        file="/cg/pids.max",
        value="1",
        hint=hint,
    )


def namespace_error(hint: str | None = "Ask root") -> NamespaceError:
    return NamespaceError(errno.EPERM, "enter new namespaces: net", hint)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            spawn_error(),
            "step 1 of 7, clone the child into new namespaces: pid, net: "
            "Operation not permitted (EPERM). Run as root",
        ),
        (
            SpawnError(errno.EINVAL, SetHostname(b"a"), 3, 4),
            "step 4 of 4, set the hostname to 'a': Invalid argument (EINVAL)",
        ),
        (cgroup_error(), "write '1' to /cg/pids.max: Invalid argument (EINVAL). Ask for less"),
        (cgroup_error(None), "write '1' to /cg/pids.max: Invalid argument (EINVAL)"),
        (
            namespace_error(),
            "enter new namespaces: net: Operation not permitted (EPERM). Ask root",
        ),
        (
            namespace_error(None),
            "enter new namespaces: net: Operation not permitted (EPERM)",
        ),
    ],
    ids=[
        "spawn with hint",
        "spawn",
        "cgroup with hint",
        "cgroup",
        "namespace with hint",
        "namespace",
    ],
)
def test_str_says_what_failed_why_and_what_to_do(error: OSError, said: str) -> None:
    assert str(error) == said


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EPERM])
def test_errors_keep_their_class_whatever_the_errno(number: int) -> None:
    spawn, cgroup = SpawnError(number, LoopbackUp(), 0, 1), CgroupError(number, "x")
    assert (type(spawn), type(cgroup)) == (SpawnError, CgroupError)
    assert isinstance(spawn, OSError)
    assert isinstance(cgroup, OSError)
    assert not isinstance(spawn, (FileNotFoundError, PermissionError, CgroupError))
    assert (spawn.errno, cgroup.errno) == (number, number)


def test_details_of_a_cgroup_error_are_none_when_not_given() -> None:
    error = CgroupError(errno.ENOENT, "open it")
    assert (error.controller, error.file, error.value, error.hint) == (None,) * 4


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("hint", ["Do this", None], ids=["hint", "no hint"])
def test_spawn_error_survives_pickling(trip: Trip, hint: str | None) -> None:
    error = spawn_error(hint)
    arrived = trip(error)
    assert type(arrived) is SpawnError
    assert vars(arrived) == vars(error)
    assert vars(arrived).keys() == {"step", "index", "count", "hint"}
    assert (arrived.errno, arrived.strerror) == (errno.EPERM, error.strerror)
    assert str(arrived) == str(error)


@pytest.mark.parametrize("trip", TRIPS)
def test_error_of_an_option_that_subprocess_has_survives_pickling(trip: Trip) -> None:
    error = NotPermittedError(errno.EPERM, SetUid(5), 2, 7)
    arrived = trip(error)
    assert type(arrived) is NotPermittedError
    assert isinstance(arrived, PermissionError)
    assert isinstance(arrived, SpawnError)
    assert (vars(arrived), str(arrived)) == (vars(error), str(error))


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("hint", ["Do this", None], ids=["hint", "no hint"])
def test_cgroup_error_survives_pickling(trip: Trip, hint: str | None) -> None:
    error = cgroup_error(hint)
    arrived = trip(error)
    assert type(arrived) is CgroupError
    assert vars(arrived) == vars(error)
    assert vars(arrived).keys() == {"action", "controller", "file", "value", "hint"}
    assert arrived.errno == errno.EINVAL
    assert str(arrived) == str(error)


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("hint", ["Do this", None], ids=["hint", "no hint"])
def test_namespace_error_survives_pickling(trip: Trip, hint: str | None) -> None:
    error = namespace_error(hint)
    arrived = trip(error)
    assert type(arrived) is NamespaceError
    assert vars(arrived) == vars(error)
    assert vars(arrived).keys() == {"action", "hint"}
    assert (arrived.errno, str(arrived)) == (errno.EPERM, str(error))


@pytest.mark.parametrize("make", [spawn_error, cgroup_error, namespace_error])
def test_notes_survive_pickling_as_those_of_other_exceptions_do(
    make: Callable[[], OSError],
) -> None:
    error = make()
    error.add_note("while grading")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while grading"]


PLAN = Plan(
    (
        BirthInCgroup("/cg/a", 5),
        Clone(Namespace.UTS),
        EnterCgroup("/v1/a", 6),
        SetHostname(b"a"),
        ChangeDirectory(b"/work"),
        Execute((b"/bin/ls",), (b"ls",), ()),
    )
)


COMMAND = Command((b"ls",), (b"/bin/ls",), (), name="ls", cwd_name="/work")


def refused(index: int, error: int, plan: Plan = PLAN) -> OSError:
    return explain(plan, index, error, COMMAND)


@pytest.mark.parametrize(
    "error", [errno.EACCES, errno.EBUSY, errno.EOPNOTSUPP, errno.ENOENT, errno.ENODEV]
)
def test_what_clone_says_of_the_cgroup_is_blamed_on_the_birth(error: int) -> None:
    raised = refused(1, error)
    assert isinstance(raised, SpawnError)
    assert (raised.step, raised.index, raised.count) == (PLAN.steps[0], 0, 6)
    assert raised.hint == PLAN.steps[0].hint(error)


@pytest.mark.parametrize("error", [errno.EPERM, errno.EAGAIN, errno.ENOMEM])
def test_what_clone_says_of_itself_is_blamed_on_the_clone(error: int) -> None:
    raised = refused(1, error)
    assert isinstance(raised, SpawnError)
    assert (raised.step, raised.index) == (PLAN.steps[1], 1)
    if error == errno.EPERM:  # the rest is found by looking at the caller
        assert (raised.hint or "").startswith("New namespaces need CAP_SYS_ADMIN")
    else:
        assert raised.hint == PLAN.steps[1].hint(error)


def test_without_a_birth_the_clone_is_blamed_for_everything() -> None:
    raised = refused(0, errno.EBUSY, Plan(PLAN.steps[1:]))
    assert isinstance(raised, SpawnError)
    assert raised.step == PLAN.steps[1]


def test_a_refused_step_is_named_with_its_place() -> None:
    raised = refused(3, errno.EPERM)
    assert str(raised) == ("step 4 of 6, set the hostname to 'a': Operation not permitted (EPERM)")


@pytest.mark.parametrize(
    ("index", "filename", "note"),
    [
        (4, "/work", "step 5 of 6: change to the directory '/work'"),
        (5, "ls", "step 6 of 6: execute '/bin/ls' with arguments ['ls']"),
    ],
    ids=["cwd", "program"],
)
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errno.ENOENT, FileNotFoundError),
        (errno.EACCES, PermissionError),
        (errno.ENOTDIR, NotADirectoryError),
    ],
    ids=["ENOENT", "EACCES", "ENOTDIR"],
)
def test_program_and_cwd_fail_as_subprocess_says_it(
    index: int, filename: str, note: str, error: int, kind: type[OSError]
) -> None:
    raised = refused(index, error)
    assert type(raised) is kind
    assert (raised.filename, raised.errno) == (filename, error)
    assert raised.__notes__ == [note]


def test_a_child_that_was_killed_on_the_way_is_said_to_be() -> None:
    assert str(refused(2, errno.ECANCELED)) == (
        "step 3 of 6, enter the cgroup /v1/a: Operation canceled (ECANCELED). "
        "The child was killed before it reached the program (SIGKILL, the OOM killer)"
    )
