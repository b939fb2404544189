"""What a refusal is due to: with a process filesystem that says what another machine's would."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from pyns import Namespace, Plan
from pyns.executable import read_elf, read_interpreter, why_no_format, why_too_big
from pyns.hints import hint_for, why_no_ids, why_no_namespaces, why_no_proc, why_no_room
from pyns.idmap import WriteMaps
from pyns.steps import Clone, SetHostname
from pyns.usermode import why_no_tap

EVERYBODY = "0 0 4294967295\n"
ROOT_MOUNT = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Make the /proc of an unprivileged process on a machine that forbids nothing."""
    files = {
        "self/status": "Name:\tx\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\n",
        "self/uid_map": EVERYBODY,
        "self/gid_map": EVERYBODY,
        "self/mountinfo": ROOT_MOUNT,
        "self/attr/current": "unconfined\n",
        "sys/user/max_user_namespaces": "1000\n",
        "sys/user/max_mnt_namespaces": "1000\n",
        "sys/user/max_pid_namespaces": "7\n",
    }
    for name, content in files.items():
        write(tmp_path / name, content)
    return tmp_path


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def why(proc: Path, error: int, namespaces: Namespace = Namespace.USER | Namespace.PID) -> str:
    return str(why_no_namespaces(namespaces, error, str(proc)))


def test_nothing_is_said_where_nothing_forbids_it(proc: Path) -> None:
    assert why_no_namespaces(Namespace.USER, errno.EACCES, str(proc)) is None
    assert why_no_namespaces(Namespace.USER, errno.ENOMEM, str(proc)) is None
    assert why_no_namespaces(Namespace(0), errno.EPERM, str(proc)) is None


@pytest.mark.parametrize(
    ("name", "forbids", "allows"),
    [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ],
)
def test_a_sysctl_that_forbids_user_namespaces_is_named(
    proc: Path, name: str, forbids: str, allows: str
) -> None:
    file = proc / "sys" / name.replace(".", "/")
    write(file, f"{forbids}\n")
    assert f"{name} is {forbids}. As root: sysctl -w {name}={allows}" in why(proc, errno.EPERM)
    write(file, f"{allows}\n")
    assert "sysctl" not in why(proc, errno.EPERM)
    write(file, f"{forbids}\n")
    status = (proc / "self/status").read_text()
    write(proc / "self/status", status.replace("CapEff:\t0000000000000000", "CapEff:\t1ffffffffff"))
    assert "sysctl" not in why(proc, errno.EPERM)  # it is about others


def test_an_apparmor_profile_may_allow_what_the_sysctl_forbids(proc: Path) -> None:
    write(proc / "sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
    write(proc / "self/attr/current", "chrome (unconfined)\n")
    assert "sysctl" not in why(proc, errno.EPERM)


def test_an_id_that_is_not_mapped_may_make_none(proc: Path) -> None:
    write(proc / "self/uid_map", f"0 {os.geteuid() + 1} 1\n1 {os.geteuid() + 9} 1\n")
    if os.geteuid() not in (0, 1):
        assert "The caller's uid is none" in why(proc, errno.EPERM)
    write(proc / "self/uid_map", EVERYBODY)
    write(proc / "self/gid_map", "")
    assert "The caller's gid is none" in why(proc, errno.EPERM)


def test_a_chroot_is_seen(proc: Path) -> None:
    write(proc / "self/mountinfo", ROOT_MOUNT.replace(" / / ", " / /proc "))
    assert "chroot" in why(proc, errno.EPERM)


def test_namespaces_without_a_user_namespace_take_a_capability(proc: Path) -> None:
    assert "add Namespace.USER" in why(proc, errno.EPERM, Namespace.PID)
    write(proc / "self/status", "CapEff:\t0000000000200000\n")
    assert why(proc, errno.EPERM, Namespace.PID) == "None"


def test_a_limit_of_0_is_told_from_one_that_is_reached(proc: Path) -> None:
    kinds = Namespace.MOUNT | Namespace.USER | Namespace.PID
    said = why(proc, errno.ENOSPC, kinds)
    for limit in (
        "user.max_mnt_namespaces is 1000",
        "user.max_user_namespaces is 1000",
        "user.max_pid_namespaces is 7",
    ):
        assert limit in said
    write(proc / "sys/user/max_mnt_namespaces", "0\n")
    assert why(proc, errno.ENOSPC, kinds) == (
        "user.max_mnt_namespaces is 0, which forbids them. As root: sysctl -w "
        "user.max_mnt_namespaces=10000"
    )


def test_a_proc_with_mounts_over_it_is_told(proc: Path) -> None:
    assert why_no_proc(str(proc)) is None
    line = "30 22 0:5 / /proc/{} rw - tmpfs tmpfs rw\n"
    write(proc / "self/mountinfo", ROOT_MOUNT + line.format("sys/fs/binfmt_misc"))
    assert why_no_proc(str(proc)) is None
    over = "".join(line.format(name) for name in ("kcore", "keys", "sys", "acpi"))
    write(proc / "self/mountinfo", ROOT_MOUNT + over)
    assert "(/proc/kcore, /proc/keys, /proc/sys, ...)" in str(why_no_proc(str(proc)))


def test_no_new_privileges_keeps_newuidmap_from_mapping(proc: Path) -> None:
    write(proc / "self/status", "NoNewPrivs:\t1\n")
    assert "no_new_privs" in str(why_no_ids(proc=str(proc)))


def test_an_empty_cpuset_is_told(tmp_path: Path) -> None:
    assert why_no_room(str(tmp_path)) is None
    write(tmp_path / "cpuset.cpus", "0-3\n")
    write(tmp_path / "cpuset.mems", "\n")
    assert str(why_no_room(str(tmp_path))).startswith(f"{tmp_path}/cpuset.mems is empty")


def test_a_missing_tap_device_is_told(tmp_path: Path) -> None:
    assert "modprobe tun" in str(why_no_tap(f"{tmp_path}/tun"))
    (tmp_path / "tun").touch()
    assert why_no_tap(f"{tmp_path}/tun") is None


def test_where_there_is_nothing_to_look_at_the_step_says_what_it_knows() -> None:
    plan = Plan((Clone(Namespace.UTS), SetHostname(b"x")))
    assert hint_for(plan, 1, errno.EPERM) == plan.steps[1].hint(errno.EPERM)
    maps = Plan((WriteMaps(-1, (), (), privileged=True),))
    assert hint_for(maps, 0, errno.EPERM) == maps.steps[0].hint(errno.EPERM)


def elf(machine: int, *, bits: int = 64, order: str = "<", loader: bytes | None = None) -> bytes:
    """Return the beginning of an ELF file, with one program header after 64 bytes."""
    ident = b"\x7fELF" + bytes([bits // 32, 2 if order == ">" else 1]) + bytes(10)
    size = 56 if bits == 64 else 32
    at, name = 64 + size, b"" if loader is None else loader + b"\0"
    if bits == 64:
        rest = struct.pack(
            f"{order}HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, size, 1, 0, 0, 0
        )
        header = struct.pack(f"{order}IIQQQQQQ", 3 if name else 1, 0, at, 0, 0, len(name), 0, 0)
    else:
        rest = struct.pack(
            f"{order}HHIIIIIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 52, size, 1, 0, 0, 0
        )
        header = struct.pack(f"{order}IIIIIIII", 3 if name else 1, at, 0, 0, len(name), 0, 0, 0)
    return (ident + rest).ljust(64, b"\0") + header + name


@pytest.mark.parametrize(
    ("content", "machine", "loader"),
    [
        (elf(62), "x86_64", None),
        (elf(62, loader=b"/lib64/ld.so"), "x86_64", b"/lib64/ld.so"),
        (elf(183, loader=b"/lib/ld.so"), "aarch64", b"/lib/ld.so"),
        (elf(3, bits=32, loader=b"/lib/ld.so.2"), "i386", b"/lib/ld.so.2"),
        (elf(62, bits=32), "x32", None),
        (elf(22, order=">", loader=b"/lib/ld64.so.1"), "s390x", b"/lib/ld64.so.1"),
        (elf(999), None, None),
    ],
)
def test_an_elf_file_is_read(content: bytes, machine: str | None, loader: bytes | None) -> None:
    assert read_elf(content) == (machine, loader)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF",
        b"#!/bin/sh" + bytes(100),
        elf(62)[:63],
        elf(62, loader=b"/lib64/ld.so")[:-3],  # what it needs is not known
    ],
)
def test_what_is_no_elf_file_is_none(content: bytes) -> None:
    assert read_elf(content) is None


@pytest.mark.parametrize(
    ("content", "own", "said"),
    [
        (
            elf(3, bits=32),
            "x86_64",
            "is a program for i386, and this kernel runs none of those: it ",
        ),
        (
            elf(62, bits=32),
            "x86_64",
            "is a program for x32, and this kernel runs none of those: it ",
        ),
        (
            elf(3, bits=32)[:80],
            "x86_64",
            "is cut off: it has 80 bytes, and its program headers end",
        ),
        (elf(3, bits=32)[:50], "x86_64", "is cut off: it has 50 bytes, and its ELF header alone"),
        (elf(3, bits=32), "aarch64", "is a program for i386, this machine is aarch64"),
        (elf(22, order=">"), "x86_64", "is a program for s390x, this machine is x86_64"),
    ],
    ids=["i386", "x32", "program headers", "header", "foreign", "big-endian"],
)
def test_why_there_is_no_way_to_execute_it(content: bytes, own: str, said: str) -> None:
    assert str(why_no_format(content, len(content), own)).startswith(said)


@pytest.mark.parametrize("content", [elf(62), elf(999)], ids=["own", "unknown"])
def test_a_program_in_which_nothing_is_wrong_is_left_alone(content: bytes) -> None:
    assert why_no_format(content, len(content), "x86_64") is None


@pytest.mark.parametrize(
    ("content", "interpreter"),
    [
        (b"#!/bin/sh\n", b"/bin/sh"),
        (b"#! \t/usr/bin/env  python3\n", b"/usr/bin/env"),
        (b"#!/bin/sh", b"/bin/sh"),
        (b"#!/bin/sh\r\n", b"/bin/sh\r"),
        (b"#!\n/bin/sh", None),
        (b" #!/bin/sh", None),
        (b"", None),
    ],
)
def test_the_interpreter_of_a_script_is_read(content: bytes, interpreter: bytes | None) -> None:
    assert read_interpreter(content) == interpreter


def test_what_is_too_long_is_told() -> None:
    assert why_too_big([b"x" * 131071], 8 << 20) is None
    assert "131072 bytes" in str(why_too_big([b"x" * 131072], 8 << 20))
    many = [b"x" * 999] * 3000
    assert "2097152 is the most" in str(why_too_big(many, 8 << 20))
    assert why_too_big(many, 64 << 20) is None
    assert "6291456 is the most" in str(why_too_big(many * 3, -1))
    assert "131072 is the most" in str(why_too_big(many, 4096))
