"""A namespace that is kept by a file outlives its processes, and is got into by that file."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import Namespace, NamespaceError
from pyns.namespaces import keep, release

Python = Callable[..., str]
PRELUDE = """
import os, subprocess, sys
from pyns import *
from pyns import namespaces
from pyns.namespaces import keep, release, setns, unshare

N = Namespace
PATH, *ARGUMENTS = sys.argv[1:]

def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

def said_in(kind, script):
    box = Container(namespaces=N(0), join={kind: PATH})
    return run(box, ["sh", "-c", script], stdout=-1, text=True, check=True).stdout.strip()

def refusal(call, *arguments, **named):
    try:
        call(*arguments, **named)
        return "granted"
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def on_one_cpu():
    # the kernel tells older from newer mount namespaces by ids, and since Linux 6.18 each CPU has
    # its own to give
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

def is_left():
    with open("/proc/self/mountinfo") as mounts:
        return os.path.lexists(PATH) or PATH in mounts.read()
"""


@pytest.fixture
def python(admin: Callable[..., str], tmp_path: Path) -> Python:
    """Run code, with what it uses defined and a path for the file; nothing may be left of it."""

    def execute(code: str, *arguments: object) -> str:
        after = "\nassert not is_left()\n"
        return admin(PRELUDE + textwrap.dedent(code) + after, tmp_path / "kept", *arguments)

    return execute


@pytest.mark.usefixtures("namespaces")
class TestKept:
    @pytest.mark.parametrize("name", [kind.name for kind in Namespace])
    def test_each_kind(self, python: Python, name: str) -> None:
        python(
            """
            kind = N[ARGUMENTS[0]]
            on_one_cpu()
            with unshare(N.MOUNT):
                with clone_into(Container(), ["sleep", "60"]) as process:
                    inode = namespaces.of(process.pid)[kind]
                    keep(kind, PATH, of=process)
                    process.kill()
                assert os.stat(PATH).st_ino == inode
                release(PATH)
            """,
            name,
        )

    def test_is_joined_after_its_last_process(self, python: Python) -> None:
        python(
            """
            with clone_into(Container(hostname="kept"), ["sleep", "60"]) as process:
                keep(N.UTS, PATH, of=process)
                process.kill()
            assert said_in(N.UTS, "uname -n") == "kept"
            with setns(PATH, N.UTS):
                assert os.uname().nodename == "kept"
            assert output("nsenter", f"--uts={PATH}", "uname", "-n") == "kept"
            release(PATH)
            """
        )

    def test_of_nobody_is_the_calling_threads(self, python: Python) -> None:
        python(
            """
            with unshare(N.NET):  # as ip netns add does
                keep(N.NET, PATH)
                inode = namespaces.of()[N.NET]
            assert namespaces.of()[N.NET] != inode
            assert said_in(N.NET, "readlink /proc/self/ns/net") == f"net:[{inode}]"
            release(PATH)
            """
        )

    def test_by_unshare_is_released(self, python: Python) -> None:
        python(
            """
            open(PATH, "x").close()
            output("unshare", f"--uts={PATH}", "hostname", "kept")
            assert said_in(N.UTS, "uname -n") == "kept"
            release(PATH)
            """
        )

    def test_pid_namespace_dies_with_its_pid_1_all_the_same(self, python: Python) -> None:
        python(
            """
            with clone_into(Container(), ["sleep", "60"]) as process:
                keep(N.PID, PATH, of=process.pid)
                assert said_in(N.PID, "echo $$ $PPID") == "2 0"
                process.kill()
            try:
                said_in(N.PID, "echo $$")
            except SpawnError as error:
                assert (error.step.kind, error.errno) == ("clone_again", 12), error
                assert error.hint.startswith("PID 1 of that PID namespace has ended")
            with setns(PATH, N.PID):
                assert "Cannot allocate memory" in refusal(subprocess.run, ["true"])
            release(PATH)
            """
        )

    def test_by_a_pidfd_and_an_open_file(self, python: Python) -> None:
        python(
            """
            with clone_into(Container(), ["sleep", "60"]) as process:
                inode = namespaces.of(process.pid)[N.IPC]
                with open(f"/proc/{process.pid}/ns/ipc") as file:
                    for owner in (file, Fd(process.pidfd)):
                        keep(N.IPC, PATH, of=owner)
                        assert os.stat(PATH).st_ino == inode
                        release(PATH)
                process.kill()
            """
        )


@pytest.mark.usefixtures("namespaces")
class TestRefused:
    def test_mount_namespace_that_would_be_shared(self, python: Python) -> None:
        said = python(
            """
            directory = os.path.dirname(PATH)
            on_one_cpu()
            with unshare(N.MOUNT):
                output("mount", "-t", "tmpfs", "pyns-test", directory)
                output("mount", "--make-shared", directory)
                with clone_into(Container(propagation="slave"), ["sleep", "60"]) as process:
                    print(refusal(keep, N.MOUNT, PATH, of=process))
                    assert not is_left()
                    output("mount", "--make-private", directory)
                    keep(N.MOUNT, PATH, of=process)
                    release(PATH)
                    process.kill()
            """
        )
        assert said.startswith("NamespaceError: mount the mount namespace on '")
        assert said.endswith(
            "Invalid argument (EINVAL). The file lies on a shared mount, and this would appear in "
            "other mount namespaces, too: take one on a private mount (mount --make-private)"
        )

    def test_mount_namespace_that_would_keep_itself(self, python: Python) -> None:
        said = python(
            """
            with unshare(N.MOUNT):
                output("mount", "--make-rprivate", "/")  # of a shared one something else is said
                print(refusal(keep, N.MOUNT, PATH))
            """
        )
        assert "(EINVAL). A mount namespace is kept in one that has a lower id" in said

    def test_file_that_is_there(self, python: Python) -> None:
        python(
            """
            open(PATH, "x").close()
            assert refusal(keep, N.NET, PATH).startswith("FileExistsError")
            os.unlink(PATH)
            """
        )

    def test_another_kind(self, python: Python) -> None:
        said = python("print(refusal(keep, N.NET, PATH, of='/proc/self/ns/uts'))")
        assert said == "ValueError: the uts namespace is in this file, not net"

    def test_process_that_has_ended(self, python: Python) -> None:
        python(
            """
            process = clone_into(Container(), ["true"])
            os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
            # a zombie has its user namespace still
            assert refusal(keep, N.USER, PATH, of=process).startswith("ProcessLookupError")
            process.wait()
            """
        )

    def test_release_of_what_is_no_mount(self, python: Python) -> None:
        said = python("print(refusal(release, '/proc/self/ns/uts'))")
        assert said == "NamespaceError: unmount '/proc/self/ns/uts': Invalid argument (EINVAL)"


@pytest.mark.usefixtures("ordinary")
def test_without_the_privilege_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(NamespaceError, match=r"EPERM.*CAP_SYS_ADMIN in the user namespace"):
        keep(Namespace.NET, tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []


def test_release_of_a_plain_file_leaves_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="is not the file of a namespace"):
        release(file)
    assert file.exists()


@pytest.mark.parametrize(
    ("kind", "of", "error", "said"),
    [
        (Namespace(0), None, ValueError, "a file keeps one namespace, not none"),
        (Namespace.NET | Namespace.UTS, None, ValueError, "keeps one namespace, not uts, net"),
        ("net", None, TypeError, "is not a Namespace"),
        (Namespace.NET, 0, ValueError, "of=0 is not a pid"),
        (Namespace.NET, 1.5, TypeError, "of=1.5 is not a path, a Process"),
    ],
)
def test_nonsense_is_refused(
    kind: Namespace, of: int | None, error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        keep(kind, tmp_path / "kept", of=of)
