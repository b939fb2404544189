"""What an ordinary user is told who may not, and that the fix which is told is one."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from pyns import CgroupError, Container, IdMap, Limits, Namespace, Process, run
from pyns.cgroups import Cgroup, Hierarchy, current, delegation, hierarchies

ANYBODY = 65533
SYSTEMD = os.path.isdir(delegation.SYSTEMD)
IN_A_SCOPE = ["systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes", "--"]


def refusal(call: Callable[[], object]) -> CgroupError:
    with pytest.raises(CgroupError) as caught:
        call()
    assert caught.value.hint
    return caught.value


def perform(hint: str | None) -> None:
    """Do what a hint says, where that is a command."""
    said = re.search(r"As (?:root|the caller): (.*)", hint or "")
    assert said, hint
    subprocess.run(["sh", "-ec", said[1]], check=True, timeout=20)


def v2() -> Hierarchy | None:
    return next((h for h in hierarchies() if h.version == 2), None)


@pytest.fixture
def not_delegated() -> CgroupError:
    """Return how the caller is refused a limited group; skip where it is not."""
    try:
        Cgroup.create(limits=Limits(pids_max=5)).remove()
    except CgroupError as error:
        if error.errno == errno.EACCES:
            return error
        pytest.skip(f"Cgroup.create(limits=pids): {error}")
    pytest.skip("Cgroup.create(limits=pids): works, the caller's group is delegated to it")


@pytest.fixture
def session() -> None:
    """Skip without a user manager of systemd."""
    if os.geteuid() == 0:
        pytest.skip("geteuid() is 0: this is about an ordinary user")
    if not SYSTEMD:
        pytest.skip(f"no {delegation.SYSTEMD}: systemd does not run here")
    done = subprocess.run([*IN_A_SCOPE, "true"], stderr=-1, text=True, timeout=30)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(IN_A_SCOPE)} true: {done.stderr.strip()}")


def in_a_scope(script: str) -> str:
    """Run a script in a delegated scope, after it has moved into a leaf."""
    text = "from pyns import *; from pyns.cgroups import *; Cgroup.own(leaf='main')\n" + script
    return subprocess.run(
        [*IN_A_SCOPE, sys.executable, "-P", "-c", text],
        stdout=-1,
        text=True,
        check=True,
        timeout=50,
    ).stdout


class TestNotDelegated:
    def test_says_whose_it_is_and_which_command_helps(self, not_delegated: CgroupError) -> None:
        hint = not_delegated.hint or ""
        assert f"belongs to uid 0, the caller is uid {os.geteuid()}: it is not delegated" in hint
        if SYSTEMD and hierarchies()[0].version == 1:
            assert "boot with systemd.unified_cgroup_hierarchy=1" in hint
        elif SYSTEMD:
            assert "systemd-run --user --scope -p Delegate=yes -- COMMAND" in hint
        else:
            assert f"chown {os.geteuid()} $d $d/cgroup.procs" in hint

    @pytest.mark.usefixtures("not_delegated")
    def test_own_leaf_says_it_too(self) -> None:
        if v2() is None:
            pytest.skip("no v2 hierarchy: v1 needs no leaf")
        error = refusal(lambda: Cgroup.own(leaf="main"))
        assert error.errno == errno.EACCES
        assert "it is not delegated" in (error.hint or "")

    @pytest.mark.usefixtures("not_delegated")
    def test_limit_of_the_own_group_says_it_too(self) -> None:
        with closing(Cgroup.own()) as own:
            error = refusal(lambda: own.apply(Limits(pids_max=50)))
        if error.errno == errno.EOPNOTSUPP:
            pytest.skip(f"the own group has no pids to limit: {error}")
        assert error.errno == errno.EACCES
        assert "it is not delegated" in (error.hint or "")

    @pytest.mark.usefixtures("session")
    @pytest.mark.timeout(120)
    def test_command_that_is_said_helps_under_systemd(self) -> None:
        if hierarchies()[0].version == 1:
            pytest.skip("there are v1 hierarchies, of which systemd delegates none")
        script = (
            "with Cgroup.create(limits=Limits(memory_max='9M', pids_max=5, cpu_max=1)) as group:\n"
            "    print(*group.paths)"
        )
        assert ".scope/" in in_a_scope(script)

    @pytest.mark.usefixtures("ordinary", "limits")
    def test_limits_of_the_delegated_group_itself_are_not_delegated(self) -> None:
        # the conftest has moved us into the leaf
        with closing(Cgroup.own(leaf="tests")) as own:
            files = [Path(path, "pids.max") for path in own.paths]
            if any(os.access(file, os.W_OK) for file in files):
                pytest.skip(f"one of these is the caller's: {', '.join(map(str, files))}")
            error = refusal(lambda: own.apply(Limits(pids_max=5000)))
        assert error.errno == errno.EACCES
        assert "as the limits of a delegated group do" in (error.hint or "")

    @pytest.mark.skipif(SYSTEMD, reason=f"{delegation.SYSTEMD}: it is told something else there")
    def test_commands_that_are_said_help_without_systemd(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("geteuid() is not 0: the commands are root's")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            child = os.fork()
            if child == 0:
                ours.close()
                ask_until_it_works(theirs)
            theirs.close()
            try:
                said = []
                with ours.makefile("rw", encoding="utf-8") as lines:
                    for line in lines:
                        said.append(line.strip())
                        if "As root: " not in line:
                            break
                        perform(line)
                        lines.write("done\n")
                        lines.flush()
            finally:
                ours.shutdown(socket.SHUT_RDWR)
                os.waitpid(child, 0)
                remove_delegated()
        assert said[-1] == "works"
        assert len(said) > 1


def ask_until_it_works(asked: socket.socket) -> None:
    """Become an ordinary user, make a limited group, hand over the hint, and try again."""
    status = 1
    try:
        os.setgroups([])
        os.setresuid(ANYBODY, ANYBODY, ANYBODY)
        with asked.makefile("rw", encoding="utf-8") as lines:
            offered = {controller for h in hierarchies() for controller in h.controllers}
            wanted = Limits(memory_max="100M", pids_max=9, cpu_max=1, cpuset_cpus="0")
            limits = wanted.only(offered)
            for _ in range(20):
                try:
                    Cgroup.create(limits=limits).remove()
                except CgroupError as error:
                    hint = error.hint or str(error)
                    if 'Cgroup.own(leaf="main")' in hint:
                        Cgroup.own(leaf="main").close()
                        continue
                    lines.write(f"{hint}\n")
                    lines.flush()
                    if not lines.readline():
                        break
                else:
                    lines.write("works\n")
                    status = 0
                    break
    finally:
        os._exit(status)


def remove_delegated() -> None:
    for hierarchy in hierarchies():
        for name in (f"pyns-{ANYBODY}/main", f"pyns-{ANYBODY}"):
            with suppress(FileNotFoundError):
                os.rmdir(f"{hierarchy.mount_point}/{name}")


class TestAdd:
    def test_of_anothers_process_says_which_file_is_whose(self) -> None:
        if os.geteuid() == 0:
            pytest.skip("geteuid() is 0: root may move everyone")
        try:
            group = Cgroup.create()
        except CgroupError as refused:
            pytest.skip(f"Cgroup.create(): {refused}")
        with group:
            error = refusal(lambda: group.add(1))
        assert error.errno in (errno.EACCES, errno.EPERM)
        assert "it comes from" in (error.hint or "").lower()


@pytest.fixture
def inner() -> Iterator[tuple[Cgroup, str, Limits]]:
    """Yield a v2 group without a certain controller, the controller, and a limit that needs it."""
    try:
        above = Cgroup.create("above")
    except CgroupError as error:
        pytest.skip(f"Cgroup.create('above'): {error}")
    with above:
        path = next((p for p in above.paths if Path(p, "cgroup.controllers").exists()), None)
        if path is None:
            pytest.skip(f"no cgroup.controllers in {above.paths}: no v2 hierarchy")
        top = v2()
        assert top is not None
        # those that only count are handed down unasked
        offered = set(top.controllers) - {"cpu", "memory", "pids"}
        if os.geteuid() != 0:
            offered &= set(Path(path, "..", "cgroup.controllers").read_text().split())
        limits = {
            "hugetlb": Limits(extra={"hugetlb.2MB.max": "0"}),
            "io": Limits(io_weight=50),
            "cpuset": Limits(cpuset_cpus="0"),
        }
        controller = next(iter(sorted(offered.intersection(limits))), None)
        if controller is None:
            pytest.skip(f"{path} can have none of {', '.join(limits)}: {sorted(offered)}")
        os.mkdir(f"{path}/inner")
        group = Cgroup.open("inner", parent=above)
        yield group, controller, limits[controller]
        group.close()


class TestNotHandedDown:
    def test_command_that_is_said_helps(self, inner: tuple[Cgroup, str, Limits]) -> None:
        group, controller, limits = inner
        error = refusal(lambda: Cgroup.create(limits=limits, parent=group))
        assert (error.errno, error.controller) == (errno.EOPNOTSUPP, controller)
        keeps = re.match(rf"(\S+) has {controller}, but does not hand it down", error.hint or "")
        assert keeps
        assert f"{group.paths[0]}/".startswith(f"{keeps[1]}/")
        if SYSTEMD and "for d in" not in (error.hint or ""):
            return  # its own ways are tested below
        perform(error.hint)
        try:
            Cgroup.create(limits=limits, parent=group).remove()
        finally:
            path = group.paths[0]
            while path != os.path.dirname(keeps[1]):
                with suppress(OSError):
                    Path(path, "cgroup.subtree_control").write_text(f"-{controller}")
                path = os.path.dirname(path)

    def test_a_group_above_that_is_to_be_made_says_it_too(
        self, inner: tuple[Cgroup, str, Limits]
    ) -> None:
        group, controller, limits = inner
        error = refusal(lambda: Cgroup.create("made/group", limits=limits, parent=group))
        assert (error.errno, error.controller) == (errno.EOPNOTSUPP, controller)
        assert f"has {controller}, but does not hand it down" in (error.hint or "")

    def test_apply_says_it_too(self, inner: tuple[Cgroup, str, Limits]) -> None:
        group, controller, limits = inner
        error = refusal(lambda: group.apply(limits))
        assert error.errno == errno.EOPNOTSUPP
        assert f"has {controller}, but does not hand it down" in (error.hint or "")

    @pytest.mark.usefixtures("session")
    @pytest.mark.timeout(120)
    def test_drop_in_is_said_under_systemd(self) -> None:
        found = v2()
        if found is None or "io" not in found.controllers:
            pytest.skip(f"v2 has no io here: {hierarchies()}")
        said = in_a_scope(
            "try: Cgroup.create(limits=Limits(io_weight=50)).remove()\n"
            "except CgroupError as error: print(error.hint)"
        )
        if not said:
            pytest.skip("Cgroup.create(limits=io): works, io is delegated to users here")
        assert re.match(r"/sys/fs/cgroup\S*/user.slice has io, but does not hand it down", said)
        assert 'two lines "[Service]" and "Delegate=cpu cpuset io memory pids" to ' in said
        assert "/etc/systemd/system/user@.service.d/delegate.conf, run systemctl daemon-r" in said


class TestNotThere:
    def test_taken_off_by_the_boot_command_line(self) -> None:
        words = Path("/proc/cmdline").read_text().split()
        word = next((word for word in words if word.startswith("cgroup_disable=")), None)
        if word is None:
            pytest.skip("/proc/cmdline has no cgroup_disable=")
        assert word == "cgroup_disable=memory", "boot with that one"
        error = refusal(lambda: Cgroup.create(limits=Limits(memory_max="100M")))
        assert (error.errno, error.controller) == (errno.EOPNOTSUPP, "memory")
        assert "was booted with cgroup_disable=memory: take memory off the" in (error.hint or "")

    def test_not_known_to_the_kernel(self) -> None:
        limits = Limits(extra={"nonsense.max": "1"})
        error = refusal(lambda: Cgroup.create(limits=limits))
        assert (error.errno, error.controller) == (errno.EOPNOTSUPP, "nonsense")
        if v2() is not None:
            assert "The kernel was built without it" in (error.hint or "")


class TestOccupied:
    def test_names_who_is_in_it(self, inner: tuple[Cgroup, str, Limits]) -> None:
        del inner  # it has to be possible
        group = Cgroup.create("occupied", limits=limits_of_v2())
        with group, Process(["sleep", "60"]) as process:
            group.add(process.pid)
            error = refusal(lambda: hand_down_something(group))
            process.kill()
        assert error.errno == errno.EBUSY
        assert f"There are other processes in it: {process.pid} (sleep)" in (error.hint or "")

    def test_by_the_caller_says_how_to_leave(self, inner: tuple[Cgroup, str, Limits]) -> None:
        del inner
        with Cgroup.create("occupied", limits=limits_of_v2()) as group:
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    group.add(os.getpid())
                    with pytest.raises(CgroupError) as caught:
                        hand_down_something(group)
                    os.write(writer, (caught.value.hint or "").encode())
                    Cgroup.own(leaf="main")
                    hand_down_something(group)
                    os.write(writer, b" It works")
                finally:
                    os._exit(0)
            os.close(writer)
            os.waitpid(child, 0)
            with os.fdopen(reader) as file:
                said = file.read()
        assert 'The caller is in it: Cgroup.own(leaf="main") moves it into a child It works' in said


def limits_of_v2() -> Limits:
    """Return limits that limit nothing, and need a controller of v2's."""
    offered = [c for h in hierarchies() if h.version == 2 for c in h.controllers]
    files = {"pids": "pids.max", "memory": "memory.max", "hugetlb": "hugetlb.2MB.max"}
    limits = {files[c]: "max" for c in offered if c in files}
    if not limits:
        pytest.skip(f"v2 has only {offered}")
    return Limits(extra=limits)


def hand_down_something(group: Cgroup) -> None:
    """Make and remove a group below, with a limit that needs a controller of v2's."""
    Cgroup.create(limits=limits_of_v2(), parent=group).remove()


class TestReadOnly:
    @pytest.mark.usefixtures("namespaces", "limits")
    def test_command_that_is_said_helps(self) -> None:
        # as in a container that has the hierarchies read-only, as most have
        tops = sorted({h.mount_point for h in hierarchies()})
        script = (
            "import ctypes, os, subprocess, sys; from pyns import *; from pyns.cgroups import *\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "for top in sys.argv[1:]:\n"
            "    # MS_BIND, MS_REMOUNT, MS_RDONLY; MS_NOSUID, MS_NODEV, MS_NOEXEC have to stay\n"
            "    flags = 4096 | 32 | 1 | os.statvfs(top).f_flag & 14\n"
            "    assert libc.mount(None, top.encode(), None, flags, None) == 0, top\n"
            "for _ in sys.argv:\n"
            "    try: Cgroup.create(limits=Limits(pids_max=5)).remove()\n"
            "    except CgroupError as error:\n"
            "        print(error.errno, error.hint)\n"
            "        subprocess.run(error.hint.split('mounted it: ')[1], shell=True, check=True)\n"
            "    else: print('works'); break\n"
        )
        box = Container(namespaces=Namespace.MOUNT)
        if os.geteuid() != 0:  # with capabilities after the exec
            box = Container(
                namespaces=Namespace.MOUNT | Namespace.USER,
                uid_map=IdMap.current("uid", 0),
                gid_map=IdMap.current("gid", 0),
            )
        done = run(
            box, [sys.executable, "-P", "-c", script, *tops], stdout=-1, text=True, check=True
        )
        *said, last = done.stdout.splitlines()
        assert said
        assert all(line.startswith(f"{errno.EROFS} The cgroup filesystem is mou") for line in said)
        assert last == "works"


class TestHybrid:
    @pytest.mark.usefixtures("session")
    @pytest.mark.timeout(120)
    def test_controllers_of_v1_are_not_delegated(self) -> None:
        if not any(h.version == 1 and "pids" in h.controllers for h in hierarchies()):
            pytest.skip(f"pids is not of v1: {[h.controllers for h in hierarchies()]}")
        said = in_a_scope(
            "try: Cgroup.create(limits=Limits(pids_max=5)).remove()\n"
            "except CgroupError as error: print(error.errno, error.hint)"
        )
        assert said.startswith(f"{errno.EACCES} ")
        assert "systemd delegates no v1 controller to ordinary users" in said
        assert "boot with systemd.unified_cgroup_hierarchy=1" in said
        if v2() is not None:
            assert "is delegated, but has no pids" in said


def test_own_group_is_known_as_such() -> None:
    own = next(h.directory(path) for h, path in current().items())
    assert own is not None
    assert delegation.why_not_writable("/", errno.EACCES) is None
    assert delegation.why_not_writable(own, errno.ENOENT) is None
