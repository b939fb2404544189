"""Ways out by system calls, tried in the sandbox: each fails at its wall, and works without it.

A wall is taken away by the field that builds it. What is refused twice is tried without the first
wall, too, so that it is the second one that answers.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import Bind, Container, Proc, Tmpfs

pytestmark = pytest.mark.usefixtures("namespaces")

Attack = Callable[..., str]
Box = Callable[..., Container]

EPERM = "EPERM"


class TestNestedNamespaces:
    UNSHARE = "print(call('unshare', 0x10000000))"  # CLONE_NEWUSER
    # CLONE_NEWUSER | SIGCHLD; in the child nothing but its end
    CLONE = """
said = call('clone', 0x10000000 | 17, 0, 0, 0, 0)
if result == 0: os._exit(0)
print(said)
"""
    CLONE3 = """
clone_args = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
said = call('clone3', ctypes.byref(clone_args), 88)
if result == 0: os._exit(0)
print(said)
"""

    @pytest.mark.parametrize(
        ("code", "filtered"), [(UNSHARE, EPERM), (CLONE, EPERM), (CLONE3, "ENOSYS")]
    )
    def test_are_refused_by_the_filter_and_by_their_number(
        self, attack: Attack, sandbox: Box, code: str, filtered: str
    ) -> None:
        assert attack(sandbox(), code) == filtered
        assert attack(sandbox(seccomp=None), code) == "ENOSPC"
        assert attack(sandbox(seccomp=None, max_user_namespaces=None), code) == "ok"

    def test_can_not_be_had_by_joining(self, attack: Attack, sandbox: Box) -> None:
        code = (
            "for kind in 'user', 'mnt', 'net', 'pid':\n"
            "    fd = os.open(f'/proc/self/ns/{kind}', os.O_RDONLY)\n"
            "    print(call('setns', fd, 0))\n"
        )
        assert set(attack(sandbox(), code).split()) == {EPERM}
        # EINVAL: one's own user namespace, even for its root
        assert set(attack(sandbox(seccomp=None), code).split()) <= {EPERM, "EINVAL"}


class TestMounting:
    MOUNT = "print(call('mount', b'x', b'/tmp', b'tmpfs', 0, None))"
    FSOPEN = "print(call('fsopen', b'tmpfs', 0))"
    # AT_FDCWD; OPEN_TREE_CLONE | AT_RECURSIVE
    OPEN_TREE = "print(call('open_tree', -100, b'/', 0x8001))"

    @pytest.mark.parametrize("code", [MOUNT, FSOPEN, OPEN_TREE])
    def test_is_refused_by_the_filter_and_by_missing_capabilities(
        self, attack: Attack, sandbox: Box, rooted: Box, code: str
    ) -> None:
        assert attack(sandbox(), code) == EPERM
        assert attack(sandbox(seccomp=None), code) == EPERM
        assert attack(rooted(), code) == "ok"

    def test_a_mask_does_not_come_off(self, attack: Attack, sandbox: Box, rooted: Box) -> None:
        code = "print(call('umount2', b'/proc/timer_list', 2))"  # MNT_DETACH
        assert attack(sandbox(), code) == EPERM
        assert attack(sandbox(seccomp=None), code) == EPERM
        assert attack(rooted(masked_paths=["/proc/timer_list"]), code) == "ok"

    def test_read_only_stays_read_only(self, attack: Attack, sandbox: Box, rooted: Box) -> None:
        # MS_REMOUNT | MS_BIND
        code = "print(call('mount', b'', b'/proc/sys', b'', 0x1020, None))"
        for box in (sandbox(), sandbox(seccomp=None)):
            assert attack(box, code) == EPERM
        assert attack(rooted(read_only_paths=["/proc/sys"]), code) == "ok"

    def test_root_is_not_left_by_chroot(
        self, attack: Attack, sandbox: Box, rooted: Box, new_root: Path
    ) -> None:
        """The classic way: below a root that one is not in, `..` goes on to the real one."""
        code = (
            "os.makedirs('/tmp/x', exist_ok=True)\n"
            "said = call('chroot', b'/tmp/x')\n"
            "if said == 'ok':\n"
            "    for _ in range(50): os.chdir('..')\n"
            "    os.chroot('.')\n"
            "print(said, os.path.exists(sys.argv[1]))\n"
        )
        marker = new_root / "marker"
        marker.touch()
        # the marker by its path on the host
        assert attack(sandbox(), code, marker) == "EPERM False"
        assert attack(sandbox(seccomp=None), code, marker) == "EPERM False"
        usr = Bind("/usr", read_only=True)
        inside = rooted(root=new_root, mounts=[usr, Proc(), Tmpfs("/tmp")])
        assert attack(inside, code, marker) == "ok False"  # pivot_root has left nothing to go to
        only_chroot = f"os.chdir('/'); os.chroot({str(new_root)!r}); os.chdir('/')\n"
        host = rooted(mounts=[Proc(), Bind("/usr", new_root / "usr"), Tmpfs(new_root / "tmp")])
        assert attack(host, only_chroot + code, marker) == "ok True"

    def test_pivot_root_is_refused(self, attack: Attack, sandbox: Box) -> None:
        code = "print(call('pivot_root', b'/', b'/'))"
        assert attack(sandbox(), code) == attack(sandbox(seccomp=None), code) == EPERM


class TestFileHandles:
    """A handle finds a file wherever it lies in its filesystem ("shocker", 2014)."""

    CODE = """
mount = os.open(sys.argv[1], os.O_RDONLY)
handle = bytes.fromhex(sys.argv[2])
said = call('open_by_handle_at', mount, ctypes.create_string_buffer(handle), 0)
print(said, os.read(result, 99).decode() if result >= 0 else '')
"""
    TAKE = """
buffer = ctypes.create_string_buffer((128).to_bytes(4, sys.byteorder), 136)
mount = ctypes.byref(ctypes.c_int())
said = call('name_to_handle_at', -100, os.fsencode(sys.argv[1]), buffer, mount, 0)
size = int.from_bytes(buffer.raw[:4], sys.byteorder)
print(buffer.raw[:8 + size].hex() if said == 'ok' else said)
"""

    @pytest.mark.usefixtures("root_only")
    def test_open_nothing(self, attack: Attack, sandbox: Box, tmp_path: Path) -> None:
        (tmp_path / "shown").mkdir()
        (tmp_path / "secret").write_text("secret")
        handle = attack(None, self.TAKE, tmp_path / "secret")
        if handle.startswith("E"):
            pytest.skip(f"name_to_handle_at: {handle}")
        given = Bind(tmp_path / "shown", "/shown")
        assert attack(sandbox(mounts=[given]), self.CODE, "/shown", handle) == EPERM
        assert attack(sandbox(mounts=[given], seccomp=None), self.CODE, "/shown", handle) == EPERM
        # CAP_DAC_READ_SEARCH
        usual = Container(root=Tmpfs("/"), mounts=[*(sandbox().mounts or ()), given])
        assert attack(usual, self.CODE, "/shown", handle) == "ok secret"


class TestDevices:
    def test_can_not_be_made(self, attack: Attack, sandbox: Box) -> None:
        code = f"print(attempt(os.mknod, '/tmp/sda', {stat.S_IFBLK | 0o666}, os.makedev(8, 0)))"
        assert attack(sandbox(), code) == EPERM

    @pytest.mark.usefixtures("root_only")
    def test_can_be_made_with_the_capability_and_not_opened(
        self, attack: Attack, tmp_path: Path
    ) -> None:
        code = (
            f"print(attempt(os.mknod, '/tmp/zero', {stat.S_IFCHR | 0o666}, os.makedev(1, 5)),"
            "attempt(open, '/tmp/zero'))"
        )
        assert attack(Container(mounts=[Proc(), Tmpfs("/tmp")]), code) == "ok EACCES"
        for nodev, said in (True, "ok EACCES"), (False, "ok ok"):
            given = Bind(tmp_path, "/tmp", nodev=nodev)
            assert attack(Container(mounts=[Proc(), given]), code) == said
            (tmp_path / "zero").unlink()

    def test_there_are_are_those_that_give_nothing_away(self, attack: Attack, sandbox: Box) -> None:
        code = (
            "import stat\n"
            "for path, below, names in os.walk('/'):\n"
            "    if path == '/': below[:] = set(below) - {'proc', 'usr'}\n"
            "    for name in names:\n"
            "        mode = os.lstat(os.path.join(path, name)).st_mode\n"
            "        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode): print(os.path.join(path, name))\n"
        )
        nodes = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
        assert set(attack(sandbox(), code).split()) == nodes | {"/dev/pts/ptmx"}


class TestSockets:
    @pytest.mark.parametrize(
        ("family", "kind", "protocol"),
        [(40, 1, 0), (38, 5, 0), (17, 3, 0), (29, 3, 1), (31, 3, 1), (16, 3, 15), (16, 3, 12)],
        ids=["VSOCK", "ALG", "PACKET", "CAN", "BLUETOOTH", "uevents", "netfilter"],
    )
    def test_of_other_families_are_refused_by_the_filter(
        self, attack: Attack, sandbox: Box, family: int, kind: int, protocol: int
    ) -> None:
        code = "print(call('socket', *map(int, sys.argv[1:])))"
        said = attack(sandbox(), code, family, kind, protocol)
        assert said in ("EAFNOSUPPORT", "EPROTONOSUPPORT")
        without = attack(sandbox(seccomp=None), code, family, kind, protocol)
        if without == said:
            pytest.skip(f"socket({family}, {kind}, {protocol}) without the filter: {without}")
        assert without in ("ok", EPERM)

    def test_raw_ones_are_refused_by_missing_capabilities(
        self, attack: Attack, sandbox: Box, rooted: Box
    ) -> None:
        code = "print(call('socket', 2, 3, 1), call('socket', 10, 3, 58), call('socket', 17, 3, 0))"
        assert attack(sandbox(), code) == "EPERM EPERM EAFNOSUPPORT"
        assert attack(sandbox(seccomp=None), code) == "EPERM EPERM EPERM"
        assert attack(rooted(), code) == "ok ok ok"


class TestRareCalls:
    @pytest.mark.parametrize(
        ("code", "refused"),
        [
            ("call('io_uring_setup', 1, 0)", "ENOSYS"),
            ("call('bpf', 99, 0, 0)", EPERM),
            ("call('perf_event_open', 0, 0, -1, -1, 0)", EPERM),
            ("call('userfaultfd', 99)", EPERM),
            ("call('kexec_load', 0, 0, 0, 0)", EPERM),
            ("call('init_module', 0, 0, 0)", EPERM),
            ("call('fanotify_init', 99, 0)", EPERM),
            ("call('modify_ldt', 0, 0, 0)", EPERM),
            ("call('add_key', 0, 0, 0, 0, 0)", EPERM),
            ("call('personality', 0x0400000)", EPERM),  # READ_IMPLIES_EXEC
            ("call('unshare', 0x02000000)", EPERM),  # CLONE_NEWCGROUP
            ("call('ioctl', 0, 0x541C, 0)", EPERM),  # TIOCLINUX
            ("call(470 + 60)", "ENOSYS"),  # of a kernel to come
        ],
    )
    def test_are_refused_by_the_filter(
        self, attack: Attack, sandbox: Box, code: str, refused: str
    ) -> None:
        code = f"print({code})"
        if "modify_ldt" in code and os.uname().machine != "x86_64":
            pytest.skip(f"{os.uname().machine} has no modify_ldt")
        assert attack(sandbox(), code) == refused
        # by the kernel, for another reason; or for the same, where an administrator says so
        assert attack(sandbox(seccomp=None), code) in {
            "ok", "EFAULT", "EINVAL", "ENOTTY", "ENOSYS", EPERM,
        }  # fmt: skip

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine is not x86_64: no int 0x80")
    def test_32_bit_entry_kills(self, attack: Attack, sandbox: Box) -> None:
        code = (
            "import mmap\n"
            "page = mmap.mmap(-1, 4096, prot=7)\n"
            "page.write(bytes.fromhex('b814000000cd80c3'))\n"  # getpid by int 0x80; ret
            "address = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
            "child = os.fork()\n"
            "if not child:\n"
            "    ctypes.CFUNCTYPE(ctypes.c_int)(address)()\n"
            "    os._exit(0)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), call(0x40000000 + 39))\n"
        )
        without, x32 = attack(sandbox(seccomp=None), code).split()
        if without != "0":
            pytest.skip(f"int 0x80 without a filter: {without}")
        assert attack(sandbox(), code) == f"{-signal.SIGSYS} ENOSYS", x32


class TestKeys:
    """A key of the caller's session, of its user's keyring; looked for from inside."""

    LOOK = """
for ring in -3, -4, -5:  # KEY_SPEC_SESSION_KEYRING, USER, USER_SESSION
    print(call('keyctl', 10, ring, b'user', b'pyns-secret', 0))  # KEYCTL_SEARCH
"""
    CALLER = """
import ctypes, json, os, sys
from pyns import Container, run
from pyns.syscalls import numbers
known = numbers(os.uname().machine)
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(known["keyctl"], 1, None) < 0:  # KEYCTL_JOIN_SESSION_KEYRING
    sys.exit(os.strerror(ctypes.get_errno()))
session = ctypes.c_long(-3)
libc.syscall(known["add_key"], b"user", b"pyns-secret", b"x", ctypes.c_long(1), session)
for fields in {"new_keyring": False, "seccomp": None}, {"seccomp": None}, {}:
    box = Container.sandbox(limits=None, **fields)
    done = run(box, json.loads(sys.argv[1]), capture_output=True, text=True)
    print(*done.stdout.split(), done.stderr)
"""

    def test_of_the_callers_session_are_out_of_reach(
        self, hostile: Callable[..., list[str]]
    ) -> None:
        command = [sys.executable, "-P", "-c", self.CALLER, json.dumps(hostile(self.LOOK))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if done.returncode == 1 and "Traceback" not in done.stderr:
            pytest.skip(f"keyctl(KEYCTL_JOIN_SESSION_KEYRING): {done.stderr}")
        assert done.stderr == ""
        shared, own, filtered = done.stdout.splitlines()
        assert shared.split()[0] == "ok"
        assert "ok" not in own.split()
        assert filtered.split() == [EPERM] * 3

    def test_are_not_listed(self, attack: Attack, sandbox: Box) -> None:
        code = "print(len(open('/proc/keys').read()))"
        assert attack(sandbox(), code) == "0"
