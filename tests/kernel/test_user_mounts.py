"""Every kind of mount at work in a user namespace, for root and for others; or refused, and why."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pyns import (
    Bind,
    CgroupFs,
    Container,
    Dev,
    Devpts,
    Dir,
    File,
    IdMap,
    Mqueue,
    Namespace,
    Overlay,
    Proc,
    SpawnError,
    Symlink,
    Sysfs,
    Tmpfs,
    clone_into,
    run,
)
from pyns.mounts import Mount

pytestmark = pytest.mark.usefixtures("namespaces")

Box = Callable[..., Container]
USUAL = Container().namespaces | Namespace.USER
READ_ONLY = "Read-only file system"
BUSY = "Device or resource busy"


def root_ids() -> dict[str, Any]:
    return {"uid_map": IdMap.current("uid", 0), "gid_map": IdMap.current("gid", 0)}


@pytest.fixture
def user_box(box: Box) -> Box:
    """Describe a container whose program is root in it, and the caller outside."""
    return lambda *mounts, **fields: box(*mounts, namespaces=USUAL, **root_ids(), **fields)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make a directory of the caller's with something in it."""
    path = tmp_path / "source"
    path.mkdir()
    (path / "file").write_text("from the source\n")
    (path / "script").write_text("#!/bin/sh\necho ran\n")
    (path / "script").chmod(0o755)
    return path


class Use(NamedTuple):
    """What a program does with mounts, and what comes of it.

    Attributes:
        mounts: given the directory of the caller's; or else all fields of the container.
        script: does it.
        says: what it prints, both to stdout and stderr; of a line that fails, its end.
    """

    mounts: Callable[[Path], dict[str, Any] | tuple[Mount, ...]]
    script: str
    says: tuple[str, ...]


USES = {
    "Bind": Use(
        lambda source: (Bind(source, "/x"),),
        "cat /x/file; /x/script; touch /x/new; ls /x; rm /x/new",
        ("from the source", "ran", "file", "new", "script"),
    ),
    "Bind of a file": Use(
        lambda source: (Bind(source / "file", "/etc/motd"),),
        "cat /etc/motd; rm /etc/motd",
        ("from the source", BUSY),
    ),
    "Bind, read-only, noexec": Use(
        lambda source: (Bind(source, "/x", read_only=True, noexec=True),),
        "cat /x/file; /x/script; touch /x/new",
        ("from the source", "Permission denied", READ_ONLY),
    ),
    "Bind, nodev": Use(
        lambda _: (Bind("/dev/null", "/n", nodev=True), Bind("/dev/null", "/d")),
        "echo x > /n; cat /d",
        ("Permission denied",),
    ),
    "Tmpfs": Use(
        lambda _: (Tmpfs("/x", size="64K", inodes=3, mode=0o711), Dev()),
        "stat -c %a /x; head -c 100K /dev/zero > /x/a; touch /x/b; touch /x/c; ls /x",
        ("711", "No space left on device", "No space left on device", "a", "b"),
    ),
    "Tmpfs, read-only, with entries": Use(
        lambda _: (Tmpfs("/x", read_only=True), Dir("/x/d/e", 0o700), Symlink("/x/l", "d")),
        "stat -c %a /x/l/e; touch /x/f",
        ("700", READ_ONLY),
    ),
    "Tmpfs, noexec": Use(
        lambda _: (Tmpfs("/x", noexec=True),),
        "cp /usr/bin/true /x; /x/true",
        ("Permission denied",),
    ),
    "Proc": Use(
        lambda _: (Proc("/x"),),
        "readlink /x/self; echo /x/[0-9]*; test -e /x/sys/kernel && echo all",
        ("2", "/x/1", "all"),
    ),
    "Proc, subset": Use(
        lambda _: (Proc("/x", subset="pid", hidepid="ptraceable"),),
        "ls /x | grep -v [0-9]",
        ("self", "thread-self"),
    ),
    "Sysfs": Use(
        lambda _: (Sysfs(),),
        "ls /sys/class/net; echo 9 > /sys/class/net/lo/mtu",
        ("lo", READ_ONLY),
    ),
    "Sysfs, writable": Use(
        lambda _: (Sysfs(read_only=False),),
        "ls /sys/class/net; touch /sys/new",
        ("lo", "Permission denied"),  # which is not that it is read-only
    ),
    "Dev": Use(
        lambda _: (Dev(),),
        "echo x > /dev/null; head -c 2 /dev/zero | wc -c; chmod 600 /dev/null; touch /dev/shm/x;"
        "mknod /dev/mine c 1 3; ls /dev/pts",
        ("2", READ_ONLY, "Operation not permitted", "ptmx"),
    ),
    "Dev, read-only": Use(
        lambda _: (Dev(read_only=True, mqueue=True), Symlink("/dev/core", "/proc/kcore")),
        "readlink /dev/core; touch /dev/x; touch /dev/shm/x /dev/mqueue/q; ls /dev/mqueue",
        ("/proc/kcore", READ_ONLY, "q"),
    ),
    "Devpts": Use(
        lambda _: (Devpts("/x", mode=0o600, gid=0, ptmxmode=0o640, max=1),),
        "stat -c '%a %u %g' /x/ptmx; exec 3<>/x/ptmx; stat -c '%a %u %g' /x/0; exec 4<>/x/ptmx",
        ("640 0 0", "600 0 0", "No space left on device"),
    ),
    "Mqueue": Use(lambda _: (Mqueue("/x"),), "touch /x/q; ls /x", ("q",)),
    "CgroupFs": Use(
        lambda _: (CgroupFs("/x"),),
        "cd /x; test -e cgroup.procs || cd $(ls | head -1); mkdir y; echo 1 > cgroup.procs",
        (READ_ONLY, READ_ONLY),
    ),
    "Overlay": Use(
        lambda source: (Overlay("/x", [source], size="1M"), Dir("/x/d"), Symlink("/x/l", "file")),
        "cd /x; cat l; rm file; echo new > new; ls; /x/script",
        ("from the source", "d", "l", "new", "script", "ran"),
    ),
    "Overlay, all options": Use(
        lambda source: (
            Overlay("/x", [source], userxattr=True, read_only=True, noexec=True, nosuid=True),
        ),
        "cat /x/file; touch /x/new; /x/script",
        ("from the source", READ_ONLY, "Permission denied"),
    ),
    "File": Use(
        lambda _: (File("/etc/x", "content\n", mode=0o640),),
        "cat /etc/x; stat -c '%a %u' /etc/x; echo x > /etc/x; mv /etc/x /y",
        ("content", "640 0", READ_ONLY, BUSY),
    ),
    "File, writable": Use(
        lambda _: (File("/etc/x", "content\n", read_only=False),),
        "echo more >> /etc/x; cat /etc/x",
        ("content", "more"),
    ),
    "Dir and Symlink in the root": Use(
        lambda _: (Dir("/a/b", 0o711), Symlink("/c", "a/b")),
        "stat -c '%a %u' /c/.; readlink /c",
        ("711 0", "a/b"),
    ),
    "read-only root": Use(
        lambda _: {"mounts": (Tmpfs("/tmp"),), "read_only": True, "nosuid": True, "nodev": True},
        "touch /tmp/x; touch /x; ls /tmp",
        (READ_ONLY, "x"),
    ),
    "masks": Use(
        lambda source: {
            "mounts": (Bind(source, "/x"),),
            "masked_paths": ["/x/file", "/proc/sys", "/missing"],
            "read_only_paths": ["/proc/fs", "/x"],
        },
        "cat /x/file; ls /proc/sys; touch /x/new; chmod 600 /x/file; umount /x/file; cat /x/file",
        (READ_ONLY, READ_ONLY, ""),
    ),
    **{
        f"propagation {propagation}": Use(
            lambda _, propagation=propagation: {  # type: ignore[misc]
                "mounts": (Tmpfs("/x"),),
                "propagation": propagation,
            },
            "grep ' /x ' /proc/self/mountinfo | cut -d' ' -f7 | cut -d: -f1;"
            "mkdir /x/y; mount --bind /x /x/y 2>&- || echo refused",
            says,
        )
        for propagation, says in (
            ("private", ("-",)),
            ("slave", ("-",)),
            ("shared", ("shared",)),
            ("unbindable", ("unbindable", "refused")),
        )
    },
}


@pytest.mark.parametrize("name", USES)
def test_does_what_it_is_for(user_box: Box, source: Path, name: str) -> None:
    use = USES[name]
    given = use.mounts(source)
    fields = given if isinstance(given, dict) else {"mounts": given}
    before = Path("/proc/self/mountinfo").read_text(), sorted(os.listdir(source))
    container = user_box(*fields.pop("mounts"), **fields)
    done = run(container, ["sh", "-c", f"exec 2>&1; {use.script}"], stdout=-1, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(use.says), lines
    assert all(line.endswith(said) for line, said in zip(lines, use.says, strict=True)), lines
    assert (Path("/proc/self/mountinfo").read_text(), sorted(os.listdir(source))) == before


class Refused(NamedTuple):
    """What can't be had in a user namespace.

    Attributes:
        mount: given the directory of the caller's.
        without: the namespaces that are not new.
        kind: of the step that fails.
        error: with which errno.
        hint: what the error says about it, in part.
    """

    mount: Callable[[Path], Mount]
    without: Namespace
    kind: str
    error: int
    hint: str


NONE = Namespace(0)
REFUSED = {
    "Proc without PID": Refused(
        lambda _: Proc("/mnt"), Namespace.PID, "new_mount", errno.EPERM, "shows the PID namespace"
    ),
    "Sysfs without NET": Refused(
        lambda _: Sysfs("/mnt"), Namespace.NET, "new_mount", errno.EPERM, "shows the network name"
    ),
    "Mqueue without IPC": Refused(
        lambda _: Mqueue("/mnt"), Namespace.IPC, "new_mount", errno.EPERM, "those of the IPC name"
    ),
    "CgroupFs without CGROUP": Refused(
        lambda _: CgroupFs("/mnt"), Namespace.CGROUP, "new_mount", errno.EPERM, "from the CGROUP"
    ),
    "Devpts of another group": Refused(
        lambda _: Devpts("/mnt", gid=os.getegid() + 1),
        NONE,
        "new_mount",
        errno.EINVAL,
        "gid has to",
    ),
    "Dev of another group": Refused(
        lambda _: Dev(pts_gid=os.getegid() + 1), NONE, "new_mount", errno.EINVAL, "gid has to"
    ),
    "Bind without what is below": Refused(
        lambda _: Bind("/dev", "/mnt", recursive=False), NONE, "open_tree", errno.EINVAL, "locked"
    ),
    "Overlay of what has mounts below": Refused(
        lambda _: Overlay("/mnt", ["/dev"]), NONE, "open_tree", errno.EINVAL, "locked"
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_the_reason(source: Path, name: str) -> None:
    refused = REFUSED[name]
    below = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if "locked" in refused.hint and not any(path.startswith("/dev/") for path in below):
        pytest.skip("nothing is mounted below /dev")
    container = Container(
        namespaces=USUAL & ~refused.without, mounts=[refused.mount(source)], **root_ids()
    )
    with pytest.raises(SpawnError) as caught:
        clone_into(container, ["true"], cwd="/")
    error = caught.value
    assert (error.step.kind, error.errno) == (refused.kind, refused.error)
    assert refused.hint in str(error.hint)


def test_covered_kernel_files_are_not_made_anew() -> None:
    """What is masked in a container is not to be seen again in one that is made inside."""
    outer = Container(
        namespaces=USUAL,
        mounts=[Proc(), Sysfs()],
        masked_paths=["/proc/keys", "/sys/kernel"],
        **root_ids(),
    )
    code = """
from pyns import *
for mount in Proc("/mnt"), Sysfs("/mnt"), Bind("/proc", "/mnt", recursive=False), Tmpfs("/mnt"):
    try:
        namespaces = Container().namespaces | Namespace.USER
        run(Container(namespaces=namespaces, mounts=[mount]), ["true"], check=True)
    except SpawnError as error:
        print(error.step.kind, error.errno, error.hint)
"""
    done = run(outer, [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    made, sysfs, bound = done.stdout.splitlines()
    assert made.startswith(
        f"new_mount {errno.EPERM} Mounts lie over the caller's /proc (/proc/keys)"
    )
    assert sysfs.startswith(f"new_mount {errno.EPERM} A new /sys shows")
    assert bound.startswith(f"open_tree {errno.EINVAL} In a user namespace mounts are locked")
