"""A program is restricted as the description said, seen from inside; and no more than that."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyns import Container, Namespace, SpawnError, run, seccomp

Shell = Callable[..., str]
# as every user may have it
SAME = Namespace(0)
STATUS = "exec cat /proc/self/status"


def fields(status: str) -> dict[str, str]:
    return {name: text.strip() for name, _, text in (x.partition(":") for x in status.splitlines())}


def box(**given: Any) -> Container:
    return Container(namespaces=SAME, **given)


class TestRlimits:
    def test_are_exactly_those_that_were_asked_for(self, shell: Shell) -> None:
        script = "exec cat /proc/self/limits"
        plain = shell(box(), script).splitlines()
        limited = shell(box(rlimits={"nofile": (33, 44), "core": 0}), script).splitlines()
        changed = [line[:40].split() for line in limited if line not in plain]
        assert [line[1:4] for line in changed if line[1] == "open"] == [["open", "files", "33"]]
        assert {line[1] for line in changed} <= {"open", "core"}
        assert "Max core file size        0                    0   " in "\n".join(limited)

    def test_hold(self, shell: Shell) -> None:
        script = "exec 3</dev/null 4</dev/null; (exec 5</dev/null) 2>&1 || true"
        assert "Too many open files" in shell(box(rlimits={"nofile": 5}), script)

    def test_of_the_caller_stay(self, shell: Shell) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        shell(box(rlimits={"nofile": 10}), ":")
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before

    @pytest.mark.usefixtures("namespaces")
    def test_may_be_lower_than_the_files_that_mounts_need(self, shell: Shell) -> None:
        assert shell(Container(rlimits={"nofile": 4}), "echo $$") == "1"

    def test_above_the_hard_limit_are_refused_with_what_is_missing(self) -> None:
        with pytest.raises(SpawnError, match="EPERM") as caught:
            run(box(rlimits={"nofile": "unlimited"}), ["true"])
        assert "CAP_SYS_RESOURCE on the host" in str(caught.value)
        assert "set the resource limit nofile to unlimited" in str(caught.value)


class TestCapabilities:
    SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

    def inside(self, shell: Shell, container: Container, **options: Any) -> dict[str, int]:
        status = fields(shell(container, STATUS, **options))
        return {name: int(status[name], 16) for name in self.SETS}

    @pytest.mark.usefixtures("root_only")
    @pytest.mark.parametrize(
        "options", [{}, {"user": 65534, "extra_groups": []}], ids=["0", "65534"]
    )
    @pytest.mark.parametrize(
        ("names", "mask"), [((), 0), (["net_raw", "CAP_CHOWN"], 1 | 1 << 13)], ids=["none", "two"]
    )
    def test_kept_ones_are_in_all_five_sets_and_no_others(
        self, shell: Shell, options: dict[str, Any], names: Any, mask: int
    ) -> None:
        container = box(capabilities=names)
        assert self.inside(shell, container, **options) == dict.fromkeys(self.SETS, mask)

    @pytest.mark.usefixtures("root_only", "namespaces")
    def test_none_are_left_in_a_container_of_every_namespace(self, shell: Shell) -> None:
        container = Container(hostname="x", capabilities=(), rlimits={"core": 0})
        assert self.inside(shell, container) == dict.fromkeys(self.SETS, 0)
        script = "mount -t tmpfs none /mnt 2>/dev/null || echo refused"
        assert shell(container, script) == "refused"

    @pytest.mark.usefixtures("root_only")
    def test_kept_one_works_for_another_user(self, shell: Shell, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        tmp_path.joinpath("file").touch()
        script = "chown 5 file 2>/dev/null || echo refused"
        options = {"user": 65534, "cwd": tmp_path}
        assert shell(box(capabilities=()), script, **options) == "refused"
        assert shell(box(capabilities=["chown"]), script, **options) == ""

    @pytest.mark.usefixtures("root_only")
    def test_of_the_caller_stay(self, shell: Shell) -> None:
        before = fields(Path("/proc/thread-self/status").read_text())
        self.inside(shell, box(capabilities=()), user=65534)
        after = fields(Path("/proc/thread-self/status").read_text())
        assert [after[name] for name in self.SETS] == [before[name] for name in self.SETS]

    @pytest.mark.usefixtures("ordinary")
    def test_ordinary_user_is_told_what_is_missing(self) -> None:
        with pytest.raises(SpawnError, match=r"EPERM.*It takes CAP_SETPCAP, as root or in a user"):
            run(box(capabilities=()), ["true"])

    @pytest.mark.usefixtures("root_only")
    def test_one_that_the_caller_lacks_can_not_be_kept(self) -> None:
        outer = (
            "from pyns import *\n"
            "try: run(Container(namespaces=Namespace(0), capabilities=['net_raw']), ['true'])\n"
            "except SpawnError as error: print(error)"
        )
        command = [sys.executable, "-P", "-c", outer]
        done = run(box(capabilities=["setpcap"]), command, capture_output=True, text=True)
        assert "have the capabilities cap_net_raw: Operation not permitted" in done.stdout
        assert "the caller lacks one of them" in done.stdout


class TestNoNewPrivileges:
    def test_is_set_when_asked_for(self, shell: Shell) -> None:
        assert fields(shell(box(no_new_privileges=True), STATUS))["NoNewPrivs"] == "1"

    def test_is_otherwise_as_the_caller_has_it(self, shell: Shell) -> None:
        with open("/proc/thread-self/status") as own:
            assert fields(shell(box(), STATUS))["NoNewPrivs"] == fields(own.read())["NoNewPrivs"]


# Makes system calls by number, with at most three arguments, and prints the errno of each.
CALLS = """
import ctypes, errno, json, os, sys
from pyns.syscalls import numbers
known = numbers(os.uname().machine)
libc = ctypes.CDLL(None, use_errno=True)
for name, *arguments in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    number = known[name] if isinstance(name, str) else name
    result = libc.syscall(number, *(ctypes.c_ulong(a) for a in arguments))
    print(errno.errorcode.get(ctypes.get_errno()) if result < 0 else "ok")
"""
BAD = 2**64 - 1  # an address that is none: whoever looks at it says EFAULT


class TestSeccomp:
    def calls(self, container: Container, *calls: tuple[Any, ...]) -> list[str]:
        command = [sys.executable, "-P", "-c", CALLS, json.dumps(calls)]
        done = run(container, command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return str(done.stdout).split()

    def sandbox(self, **given: Any) -> Container:
        return box(seccomp=seccomp.default(**given), no_new_privileges=True)

    @pytest.mark.parametrize(
        ("call", "error"),
        [
            (("clone3", BAD, 88), "ENOSYS"),
            (("io_uring_setup", 1, BAD), "ENOSYS"),
            (("io_uring_enter", 99), "ENOSYS"),
            (("io_uring_register", 99), "ENOSYS"),
            ((500,), "ENOSYS"),
            (("keyctl", 0, 0), "EPERM"),
            (("add_key", BAD, BAD, 0), "EPERM"),
            (("request_key", BAD, BAD, 0), "EPERM"),
            (("userfaultfd", 0), "EPERM"),
            (("perf_event_open", BAD, 0, 0), "EPERM"),
            (("bpf", 0, BAD, 0), "EPERM"),
            (("kexec_load", 0, 0, 0), "EPERM"),
            (("init_module", BAD, 0, BAD), "EPERM"),
            (("finit_module", 99, BAD, 0), "EPERM"),
            (("mount", BAD, BAD, BAD), "EPERM"),
            (("umount2", BAD, 0), "EPERM"),
            (("pivot_root", BAD, BAD), "EPERM"),
            (("fsopen", BAD, 0), "EPERM"),
            (("open_tree", 0, BAD, 0), "EPERM"),
            (("move_mount", 0, BAD, 0), "EPERM"),
            (("setns", 99, 0), "EPERM"),
            (("ptrace", 0, 0, 0), "EPERM"),
            (("pidfd_getfd", 99, 0, 0), "EPERM"),
            (("socket", 40, 1, 0), "EAFNOSUPPORT"),  # AF_VSOCK
            (("socket", 2**32 + 40, 1, 0), "EAFNOSUPPORT"),
            (("socket", 38, 5, 0), "EAFNOSUPPORT"),  # AF_ALG
            (("socket", 1, 1, 0), "ok"),
            (("socket", 2, 1, 0), "ok"),
            (("ioctl", 99, 0x5412, BAD), "EPERM"),  # TIOCSTI
            (("ioctl", 99, 2**32 + 0x5412, BAD), "EPERM"),
            (("ioctl", 99, 0x541C, BAD), "EPERM"),  # TIOCLINUX
            (("ioctl", 99, 0x5413, BAD), "EBADF"),
            (("unshare", 0x10000000), "EPERM"),  # CLONE_NEWUSER
            (("unshare", 0x80), "EPERM"),  # CLONE_NEWTIME
            (("unshare", 0x200), "ok"),  # CLONE_FS
            (("clone", 0x10000000 | 17, 0, 0), "EPERM"),
            (("personality", BAD), "ok"),
            (("personality", 0x0400000), "EPERM"),  # READ_IMPLIES_EXEC
            (("getpid",), "ok"),
        ],
        ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else None,
    )
    def test_default_filter_answers(self, call: tuple[Any, ...], error: str) -> None:
        assert self.calls(self.sandbox(), call) == [error]

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine is not x86_64: no x32")
    def test_x32_does_not_exist(self) -> None:
        assert self.calls(self.sandbox(), (0x40000000 + 39,), (0x40000000,)) == ["ENOSYS"] * 2

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine is not x86_64: no int 0x80")
    def test_32_bit_entry_kills(self) -> None:
        code = (
            "import ctypes, mmap\n"
            "page = mmap.mmap(-1, 4096, prot=7)\n"
            "page.write(bytes.fromhex('b814000000cd80c3'))\n"  # getpid by int 0x80; ret
            "address = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
            "ctypes.CFUNCTYPE(ctypes.c_int)(address)()\n"
        )
        command = [sys.executable, "-P", "-c", code]
        if (without := run(box(), command).returncode) != 0:
            pytest.skip(f"int 0x80 without a filter: {without}")
        assert run(self.sandbox(), command).returncode == -signal.SIGSYS

    def test_what_is_allowed_besides_works(self) -> None:
        call = ("keyctl", 0, 2**32 - 5, 0)  # KEYCTL_GET_KEYRING_ID
        assert self.calls(self.sandbox(), call) == ["EPERM"]
        assert self.calls(self.sandbox(allow=["keyctl"]), call) != ["EPERM"]

    def test_what_is_denied_besides_fails(self) -> None:
        assert self.calls(self.sandbox(deny=["getpid"]), ("getpid",), ("gettid",)) == [
            "EPERM",
            "ok",
        ]

    def test_ordinary_programs_run(self, shell: Shell) -> None:
        code = (
            "import concurrent.futures, socket, subprocess, sqlite3, tempfile, threading\n"
            "import multiprocessing\n"
            "thread = threading.Thread(target=print, args=('thread',))\n"
            "thread.start(); thread.join()\n"
            "print(subprocess.run(['echo', 'process'], capture_output=True).stdout)\n"
            "with tempfile.TemporaryDirectory() as d:\n"
            "    sqlite3.connect(d + '/db').execute('create table t (c)')\n"
            "server = socket.create_server(('127.0.0.1', 0))\n"
            "multiprocessing.get_context('spawn')\n"
        )
        script = 'ls / >/dev/null; id >/dev/null; exec "$@"'
        said = shell(self.sandbox(), script, sys.executable, "-P", "-c", code)
        assert said == "thread\nb'process\\n'"

    def test_is_seen_from_inside_and_not_outside(self, shell: Shell) -> None:
        before = fields(Path("/proc/thread-self/status").read_text())["Seccomp_filters"]
        inside = fields(shell(self.sandbox(), STATUS))
        assert (inside["Seccomp"], inside["Seccomp_filters"]) == ("2", str(int(before) + 1))
        after = fields(Path("/proc/thread-self/status").read_text())["Seccomp_filters"]
        assert after == before

    @pytest.mark.usefixtures("root_only")
    def test_other_user_without_no_new_privileges_is_told_so(self) -> None:
        with pytest.raises(SpawnError, match=r"EACCES.*It takes no_new_privileges=True"):
            run(box(seccomp=seccomp.default()), ["true"], user=65534)

    @pytest.mark.usefixtures("root_only")
    def test_root_needs_no_no_new_privileges(self, shell: Shell) -> None:
        inside = fields(shell(box(seccomp=seccomp.default()), STATUS))
        assert (inside["Seccomp"], inside["NoNewPrivs"]) == ("2", "0")

    def test_refused_program_is_the_program_s_error(self) -> None:
        container = box(seccomp=seccomp.deny(["execve"]), no_new_privileges=True)
        with pytest.raises(PermissionError) as caught:
            run(container, ["true"])
        assert caught.value.filename == "true"


class TestDieWithParent:
    CODE = """
import sys
from pyns import Container, Namespace, clone_into
child = clone_into(Container(namespaces=Namespace.parse(sys.argv[1]) if sys.argv[1] else
                             Namespace(0), die_with_parent=True), ["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.read()
"""

    def end_of_the_child(self, words: str, options: str = "") -> None:
        code = self.CODE.replace('"60"]', f'"60"]{options}')
        command = [sys.executable, "-P", "-c", code, words]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            pidfd = os.pidfd_open(int(parent.stdout.readline()))
            try:
                assert select.select([pidfd], [], [], 0.2)[0] == []
                parent.kill()
                assert select.select([pidfd], [], [], 20)[0] == [pidfd]
            finally:
                os.close(pidfd)

    def test_holds_against_sigkill(self) -> None:
        self.end_of_the_child("")

    @pytest.mark.usefixtures("namespaces")
    def test_holds_for_pid_1(self) -> None:
        self.end_of_the_child("pid,mount")

    @pytest.mark.usefixtures("root_only")
    def test_holds_for_another_user(self) -> None:
        self.end_of_the_child("pid", ", user=65534, group=65534, extra_groups=[]")

    def test_leaves_no_descriptor_behind(self, shell: Shell) -> None:
        script = "ls /proc/self/fd"
        inside = shell(box(die_with_parent=True), script, close_fds=False)
        assert inside == shell(box(), script, close_fds=False)
