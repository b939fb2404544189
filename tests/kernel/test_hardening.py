"""A program is restricted as the description said, seen from inside; and no more than that."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyns import Bind, Container, Landlock, Namespace, Proc, SpawnError, landlock, run, seccomp
from pyns.capabilities import NAMES

Shell = Callable[..., str]
# as every user may have it
SAME = Namespace(0)
STATUS = "exec cat /proc/self/status"


def fields(status: str) -> dict[str, str]:
    return {name: text.strip() for name, _, text in (x.partition(":") for x in status.splitlines())}


def keyring_refused() -> bool:
    try:
        return run(box(new_keyring=True), ["true"]).returncode != 0
    except SpawnError:
        return True


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
        # which not even that capability allows
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
            (("socket", 16, 3, 0), "ok"),  # AF_NETLINK, NETLINK_ROUTE
            (("socket", 16, 3, 15), "EPROTONOSUPPORT"),  # NETLINK_KOBJECT_UEVENT
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

    @pytest.mark.parametrize("denied", [("exit_group",), ("exit_group", "exit", "kill", "tgkill")])
    @pytest.mark.parametrize("namespaces", [SAME, Namespace.PID])
    def test_child_that_may_not_exit_ends_nevertheless(
        self, denied: tuple[str, ...], namespaces: Namespace
    ) -> None:
        rules = dict.fromkeys(denied, seccomp.fail(1))
        container = Container(
            namespaces=namespaces,
            no_new_privileges=True,
            seccomp=seccomp.assemble(rules, otherwise=seccomp.ALLOW),
        )
        with pytest.raises(FileNotFoundError):
            run(container, ["/nonexistent"])

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


@pytest.fixture
def landlocked() -> None:
    """Skip where Landlock has no scopes."""
    if landlock.abi() < 6:
        pytest.skip(f"landlock_create_ruleset(LANDLOCK_CREATE_RULESET_VERSION): {landlock.abi()}")


@pytest.mark.usefixtures("landlocked")
class TestLandlock:
    SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/dev/null")

    def locked(self, **given: Any) -> Container:
        return box(no_new_privileges=True, landlock=Landlock(**given))

    def test_reading_is_allowed_where_it_was_said(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("allowed")
        (tmp_path / "b").write_text("not")
        container = self.locked(read=[*self.SYSTEM, tmp_path / "a"])
        script = f"cd {tmp_path}; cat a; cat b 2>/dev/null || echo , b not; echo new > c"
        assert shell(container, script) == "allowed, b not"
        assert (tmp_path / "c").read_text() == "new\n"  # nothing was said of writing

    def test_writing_is_allowed_where_it_was_said(self, shell: Shell, tmp_path: Path) -> None:
        for name in ("open", "closed", "open/sub"):
            (tmp_path / name).mkdir()
        (tmp_path / "closed" / "file").write_text("kept")
        script = (
            f"cd {tmp_path}; echo new > open/file; mv open/file open/sub; rm -r open/sub;"
            "for try in 'echo x > closed/file' 'rm closed/file' 'mkdir closed/new' "
            "'mv closed/file open/x' 'truncate -s 0 closed/file' 'ln -s x closed/link'; do "
            'sh -c "$try" 2>/dev/null && echo "$try"; done; cat closed/file'
        )
        container = self.locked(write=[tmp_path / "open", "/dev/null"])
        assert shell(container, script) == "kept"
        assert sorted(os.listdir(tmp_path / "closed")) == ["file"]

    def test_moving_stays_allowed_where_only_reading_is_restricted(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        (tmp_path / "a" / "file").touch()
        container = self.locked(read=self.SYSTEM)
        shell(container, f"ln {tmp_path}/a/file {tmp_path}/b/link")
        assert (tmp_path / "b" / "link").exists()

    def test_executing_is_allowed_where_it_was_said(self, tmp_path: Path) -> None:
        copy = tmp_path / "true"
        copy.write_bytes(Path("/bin/true").read_bytes())
        copy.chmod(0o755)
        assert run(self.locked(execute=["/usr", "/lib", "/lib64"]), ["true"]).returncode == 0
        with pytest.raises(PermissionError) as caught:
            run(self.locked(execute=["/usr", "/lib", "/lib64"]), [copy])
        assert caught.value.filename == copy
        assert run(self.locked(execute=["/usr", "/lib", "/lib64", copy]), [copy]).returncode == 0

    @pytest.mark.usefixtures("namespaces")
    def test_paths_are_those_inside(self, new_root: Path) -> None:
        (new_root / "data").mkdir()
        (new_root / "data" / "file").write_text("inside")
        (new_root / "other").write_text("other")
        container = Container(
            root=new_root,
            mounts=(Bind("/usr", read_only=True), Proc()),
            no_new_privileges=True,
            landlock=Landlock(read=["/usr", "/data"], execute=["/usr"], write=()),
        )
        completed = run(container, ["sh", "-c", "cat /data/file; cat /other"], capture_output=True)
        assert completed.stdout == b"inside"
        assert b"Permission denied" in completed.stderr

    def test_ports_are_those_that_were_said(self) -> None:
        code = (
            "import errno, socket, sys\n"
            "def say(call, port):\n"
            "    try: call(('127.0.0.1', port)); print('ok')\n"
            "    except OSError as error: print(errno.errorcode[error.errno])\n"
            "say(socket.socket().bind, 0)\n"
            "say(socket.socket().bind, 47615)\n"
            "say(socket.socket().connect, int(sys.argv[1]))\n"
            "say(socket.socket().connect, int(sys.argv[2]))\n"
        )
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
            ports = [each.getsockname()[1] for each in (one, two)]
            container = self.locked(bind_tcp=[0], connect_tcp=[ports[0]])
            command = ["/usr/bin/python3", "-c", code, *map(str, ports)]
            said = run(container, command, capture_output=True, text=True).stdout.split()
        assert said == ["ok", "EACCES", "ok", "EACCES"]

    def test_scopes_keep_what_is_outside_out_of_reach(self) -> None:
        name = f"pyns-{os.getpid()}"
        code = (
            "import errno, os, socket, sys\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "print(errno.errorcode.get(s.connect_ex(chr(0) + sys.argv[1]), 'ok'))\n"
            "try: os.kill(os.getppid(), 0); print('ok')\n"
            "except OSError as error: print(errno.errorcode[error.errno])\n"
        )
        command = ["/usr/bin/python3", "-c", code, name]
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"\0{name}")
            server.listen()
            for given, expected in (
                ({"bind_tcp": ()}, ["ok", "ok"]),
                ({"scope_abstract_unix": True}, ["EPERM", "ok"]),
                ({"scope_signals": True}, ["ok", "EPERM"]),
            ):
                container = self.locked(**given)
                said = run(container, command, capture_output=True, text=True).stdout.split()
                assert said == expected

    def test_path_that_is_not_there_is_refused_by_name(self) -> None:
        with pytest.raises(SpawnError, match=r"allow reading beneath '/no/such'.*inside the cont"):
            run(self.locked(read=["/no/such"]), ["true"])

    def test_everything_together(self, shell: Shell) -> None:
        container = box(
            no_new_privileges=True,
            seccomp=seccomp.default(),
            landlock=Landlock(read=["/"], execute=["/"], write=["/dev/null"], bind_tcp=()),
            rlimits={"nofile": 16, "core": 0},
            new_session=True,
            new_keyring=not keyring_refused(),
            reset_signals=True,
            die_with_parent=True,
            oom_score_adj=1000,
            nice=5,
            timer_slack_ns=1,
        )
        assert shell(container, "touch /tmp/pyns-x 2>/dev/null || echo alive") == "alive"


class TestSession:
    SESSION = "read -r stat < /proc/self/stat; set -- ${stat##*)}; echo $$ $3 $4 $5"

    def test_is_new_and_without_a_terminal(self, shell: Shell) -> None:
        pid, group, session, terminal = shell(box(new_session=True), self.SESSION).split()
        assert (pid, pid, "0") == (group, session, terminal)

    def test_is_otherwise_the_callers(self, shell: Shell) -> None:
        assert int(shell(box(), self.SESSION).split()[2]) == os.getsid(0)

    @pytest.mark.usefixtures("namespaces")
    def test_kill_0_stays_inside(self, shell: Shell) -> None:
        container = Container(new_session=True)
        assert shell(container, "trap '' TERM; kill -TERM 0; echo alive") == "alive"


class TestKeyring:
    """What the caller has in its session keyring, looked for from inside."""

    LOOK = (
        "import ctypes, errno, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        # KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING
        "session = ctypes.c_long(-3)\n"
        "found = libc.syscall(int(sys.argv[1]), 10, session, b'user', b'pyns-secret', 0)\n"
        "print('found' if found >= 0 else errno.errorcode[ctypes.get_errno()])\n"
    )
    CODE = """
import ctypes, os, sys
from pyns import Container, Namespace, run
from pyns.syscalls import numbers
known = numbers(os.uname().machine)
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(known["keyctl"], 1, None) < 0:  # KEYCTL_JOIN_SESSION_KEYRING
    sys.exit(os.strerror(ctypes.get_errno()))
libc.syscall(known["add_key"], b"user", b"pyns-secret", b"x", ctypes.c_long(1), ctypes.c_long(-3))
user = {"user": int(sys.argv[2]), "extra_groups": []} if sys.argv[2] else {}
for new in (False, True):
    box = Container(namespaces=Namespace(0), new_keyring=new)
    look = ["/usr/bin/python3", "-c", sys.argv[1], str(known["keyctl"])]
    run(box, look, cwd="/", env={}, **user)
"""

    @pytest.mark.parametrize("user", ["", "65534"], ids=["same user", "other user"])
    def test_key_of_the_callers_session_is_out_of_reach(
        self, user: str, request: pytest.FixtureRequest
    ) -> None:
        if user:
            request.getfixturevalue("root_only")
        command = [sys.executable, "-P", "-c", self.CODE, self.LOOK, user]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        if done.returncode == 1 and "Traceback" not in done.stderr:
            pytest.skip(f"keyctl(KEYCTL_JOIN_SESSION_KEYRING): {done.stderr}")
        assert done.stderr == ""
        assert done.stdout == "found\nENOKEY\n"


class TestScheduling:
    def test_is_as_asked_for(self, shell: Shell) -> None:
        cpu = max(os.sched_getaffinity(0))
        container = box(nice=7, cpu_affinity=[cpu], oom_score_adj=600, timer_slack_ns=4000)
        script = (
            "nice; cat /proc/self/oom_score_adj /proc/self/timerslack_ns;"
            "exec grep Cpus_allowed_list /proc/self/status"
        )
        assert shell(container, script).split() == [
            "7",
            "600",
            "4000",
            "Cpus_allowed_list:",
            str(cpu),
        ]

    @pytest.mark.usefixtures("namespaces")
    def test_is_so_in_a_container_with_a_root(self, box: Any, shell: Shell) -> None:
        container = box(nice=7, oom_score_adj=600)
        assert shell(container, "nice; cat /proc/self/oom_score_adj").split() == ["7", "600"]

    def test_lower_oom_score_adj_than_allowed_is_refused_with_what_it_takes(self) -> None:
        held = int(fields(Path("/proc/thread-self/status").read_text())["CapEff"], 16)
        if held & 1 << NAMES.index("sys_resource"):
            pytest.skip("CapEff: CAP_SYS_RESOURCE is there, and nothing is refused")
        with pytest.raises(SpawnError, match="CAP_SYS_RESOURCE on the host"):
            run(box(oom_score_adj=-1000), ["true"])

    def test_cpu_that_is_not_there_is_refused_with_where_to_look(self) -> None:
        with pytest.raises(SpawnError, match="None of them is there"):
            run(box(cpu_affinity=[9999]), ["true"])

    COOKIES = """
import ctypes, os
def cookie():
    said = ctypes.c_uint64()
    assert ctypes.CDLL(None).prctl(62, 0, 0, 0, ctypes.byref(said)) == 0  # PR_SCHED_CORE_GET
    return said.value
print(cookie(), flush=True)
if os.fork() == 0:
    print(cookie(), flush=True)
    os._exit(0)
os.wait()
"""

    @pytest.mark.parametrize("kind", ["alone", "namespaces", "init"])
    def test_core_is_shared_with_nobody_else(
        self, kind: str, core_scheduling_refused: int, request: pytest.FixtureRequest
    ) -> None:
        if core_scheduling_refused:
            said = os.strerror(core_scheduling_refused)
            pytest.skip(f"prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE): {said}")
        if kind != "alone":
            request.getfixturevalue("namespaces")

        def cookies(core_scheduling: bool) -> set[int]:
            given = {"namespaces": SAME} if kind == "alone" else {"init": kind == "init"}
            container = Container(core_scheduling=core_scheduling, **given)
            command = [sys.executable, "-P", "-c", self.COOKIES]
            done = run(container, command, stdout=-1, text=True, cwd="/", check=True)
            assert len(done.stdout.split()) == 2
            return set(map(int, done.stdout.split()))

        (first,), (second,) = cookies(True), cookies(True)
        assert len({0, first, second}) == 3
        assert cookies(False) == {0}

    def test_no_core_scheduling_is_refused_with_why(self, core_scheduling_refused: int) -> None:
        if not core_scheduling_refused:
            pytest.skip("prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE): granted, nothing to refuse")
        with pytest.raises(SpawnError, match=r"SMT|CONFIG_SCHED_CORE"):
            run(box(core_scheduling=True), ["true"])

    def test_label_of_a_module_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(SpawnError, match="SELinux is not active on this host"):
            run(box(selinux_label="pyns_no_such_label"), ["true"])


class TestSignals:
    def test_are_reset(self) -> None:
        old = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        try:
            # not by a shell: dash unblocks signals
            plain, reset = (
                fields(
                    run(each, ["cat", "/proc/self/status"], capture_output=True, text=True).stdout
                )
                for each in (box(), box(reset_signals=True))
            )
        finally:
            signal.signal(signal.SIGUSR1, old)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        assert int(plain["SigIgn"], 16) & 1 << (signal.SIGUSR1 - 1)
        assert int(plain["SigBlk"], 16) & 1 << (signal.SIGUSR2 - 1)
        assert (int(reset["SigIgn"], 16), int(reset["SigBlk"], 16)) == (0, 0)


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
