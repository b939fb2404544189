"""A program has the security label that was asked for, and what that label allows; no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyns import Bind, Container, IdMap, Namespace, SpawnError, run

pytestmark = pytest.mark.usefixtures("root_only")

Box = Callable[..., Container]

NOBODY: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
SELF = IdMap(0, 0, 1), IdMap(65534, 65534, 1)
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no namespaces": ({"namespaces": Namespace(0)}, {}),
    "namespaces": ({}, {}),
    "user namespace": (
        {"namespaces": ~Namespace.TIME, "uid_map": SELF, "gid_map": SELF},
        {},
    ),
    "another user": ({"namespaces": Namespace(0)}, NOBODY),
    "another user's namespaces": ({}, NOBODY),
    "init": ({"init": True}, {}),
    "no capabilities": ({"capabilities": ()}, {}),
}
# What an ordinary user starts, who may make no namespaces but with a user namespace
CALLER = """
import sys
from pyns import Container, run
box = Container.sandbox(limits=None, **{sys.argv[1]: sys.argv[2]})
run(box, ["cat", "/proc/self/attr/current"], check=True)
"""


def label_of(box: Container, **options: Any) -> str:
    command = ["cat", "/proc/self/attr/current"]
    done = run(box, command, capture_output=True, text=True, cwd="/", **options)
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout).rstrip("\n\0")


def privately(script: str, *arguments: str, given: bytes = b"") -> str:
    """Run a script in a mount namespace of its own; return why it failed, or "" if it did not."""
    command = ["unshare", "--mount", "sh", "-ec", script, "sh", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, timeout=50)
    return done.stderr.decode().strip() if done.returncode else ""


def with_program(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} in PATH")


def ordinary_caller(field: str, label: str) -> str:
    """Start a sandbox with a label as another user; return what the program says its label is."""
    command = [sys.executable, "-P", "-c", CALLER, field, label]
    caller = Container(namespaces=Namespace(0))
    done = run(caller, command, capture_output=True, text=True, cwd="/", **NOBODY)
    if "No module named 'pyns'" in done.stderr:
        pytest.skip(f"import pyns as uid {NOBODY['user']}: it may not be read")
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout)


PARSE = (
    "mount -t securityfs securityfs /sys/kernel/security;"
    'exec apparmor_parser --quiet --skip-cache "$1"'
)
PROFILE = """
profile {} flags=(attach_disconnected) {{
  file, capability, network, mount, umount, pivot_root, signal, ptrace, unix,
  deny /**/pyns-secret r,
}}
"""


@pytest.fixture(scope="module")
def profile() -> Iterator[str]:
    """Load a profile that allows all but to read files of a certain name."""
    with_program("apparmor_parser")
    name = f"pyns-test-{os.getpid()}"
    text = PROFILE.format(name).encode()
    refusal = privately(PARSE, "--add", given=text)
    if refusal:
        pytest.skip(f"mount -t securityfs, apparmor_parser --add: {' '.join(refusal.split())}")
    yield name
    assert privately(PARSE, "--remove", given=text) == ""


class TestAppArmor:
    @pytest.mark.parametrize("no_new_privileges", [False, True])
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_the_program_s(self, profile: str, kind: str, no_new_privileges: bool) -> None:
        fields, options = KINDS[kind]
        box = Container(no_new_privileges=no_new_privileges, apparmor_profile=profile, **fields)
        assert label_of(box, **options) == f"{profile} (enforce)"
        assert label_of(Container(**fields), **options) == "unconfined"

    def test_is_not_the_caller_s(self, profile: str) -> None:
        label_of(Container(apparmor_profile=profile))
        assert Path("/proc/thread-self/attr/apparmor/current").read_text() == "unconfined\n"
        with pytest.raises(OSError, match="Invalid argument"):  # as it says if there is none
            Path("/proc/thread-self/attr/apparmor/exec").read_text()

    def test_restricts_a_program_in_a_root_of_its_own(
        self, profile: str, box: Box, tmp_path: Path
    ) -> None:
        (tmp_path / "pyns-secret").write_text("secret")
        (tmp_path / "other").write_text("other ")
        there = Bind(tmp_path, "/there")
        script = "cat /there/other /there/pyns-secret; sh -c 'cat /there/pyns-secret'"
        said = [
            run(each, ["sh", "-c", script], capture_output=True, text=True)
            for each in (box(there), box(there, apparmor_profile=profile))
        ]
        assert [each.stdout for each in said] == ["other secretsecret", "other "]
        assert said[1].stderr.count("Permission denied") == 2

    def test_can_not_be_left(self, profile: str) -> None:
        script = f"echo changeprofile {profile} > /proc/self/attr/current && echo changed"
        said = [
            run(Container(apparmor_profile=each), ["sh", "-c", script], capture_output=True)
            for each in (None, profile)
        ]
        assert [each.stdout for each in said] == [b"changed\n", b""]

    def test_in_a_sandbox_of_an_ordinary_user(self, profile: str) -> None:
        assert ordinary_caller("apparmor_profile", profile) == f"{profile} (enforce)\n"

    def test_that_is_not_loaded_is_refused(self, profile: str) -> None:
        with pytest.raises(SpawnError, match="or has no such label loaded") as caught:
            run(Container(apparmor_profile=f"{profile}-not"), ["true"])
        assert caught.value.step.kind == "set_exec_label"

    def test_confined_caller_gives_no_other(self, profile: str) -> None:
        code = (
            "import sys\n"
            "from pyns import Container, Namespace, SpawnError, run\n"
            "box = Container(namespaces=Namespace(0), apparmor_profile='unconfined')\n"
            "try: run(box, ['true'])\n"
            "except SpawnError as error: print(error)\n"
        )
        box = Container(namespaces=Namespace(0), apparmor_profile=profile)
        command = [sys.executable, "-P", "-c", code]
        done = run(box, command, capture_output=True, text=True, cwd="/")
        assert (done.returncode, done.stderr) == (0, "")
        assert "set the AppArmor label" in done.stdout


STARTER = "pyns_u:pyns_r:pyns_starter_t"
LABEL = "pyns_u:pyns_r:pyns_t"
LOOSE = "pyns_u:pyns_r:pyns_loose_t"  # not to be reached with no_new_privileges
THING = "pyns_u:pyns_r:pyns_thing_t"
# Initial contexts go by their place; that of the tests is "kernel", as of all that has no other.
# Classes and permissions that have no name here are allowed.
INITIAL = """
kernel security unlabeled fs file file_labels init any_socket port netif netmsg node igmp_packet
icmp_socket tcp_socket sysctl_modprobe sysctl sysctl_fs sysctl_kernel sysctl_net sysctl_net_unix
sysctl_vm sysctl_dev kmod policy scmp_packet devnull
"""
POLICY = """
class process
class process2
{sids}
class process {{ transition dyntransition setexec getsched }}
class process2 {{ nnp_transition nosuid_transition }}
policycap nnp_nosuid_transition;
type pyns_starter_t;
type pyns_t;
type pyns_loose_t;
type pyns_thing_t;
allow pyns_starter_t self:process {{ setexec getsched }};
allow pyns_starter_t {{ pyns_t pyns_loose_t }}:process transition;
allow pyns_starter_t pyns_t:process2 {{ nnp_transition nosuid_transition }};
role pyns_r;
role pyns_r types {{ pyns_starter_t pyns_t pyns_loose_t pyns_thing_t }};
user pyns_u roles {{ pyns_r }};
{contexts}
"""
WRITE = 'mount -t selinuxfs selinuxfs /sys/fs/selinux; exec cat > "/sys/fs/selinux/$1"'


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Load a policy of two labels where there is none, and have it enforced."""
    if not os.path.isdir("/sys/fs/selinux"):
        pytest.skip("/sys/fs/selinux: it is not there, the kernel was started without SELinux")
    current = Path("/proc/self/attr/current").read_text().rstrip("\n\0")
    if current not in ("kernel", STARTER):
        pytest.skip(f"/proc/self/attr/current: {current!r}, of a policy that is the host's own")
    if current == "kernel":
        with_program("checkpolicy")
        refusal = privately(WRITE, "load", given=compiled(tmp_path_factory.mktemp("policy")))
        if refusal:
            pytest.skip(f"mount -t selinuxfs, write its load: {refusal}")
    assert privately(WRITE, "enforce", given=b"1") == ""
    yield
    assert privately(WRITE, "enforce", given=b"0") == ""


def compiled(place: Path) -> bytes:
    initial = INITIAL.split()
    contexts = [f"sid {each} {STARTER if each == 'kernel' else THING}" for each in initial]
    text = POLICY.format(
        sids="\n".join(f"sid {each}" for each in initial), contexts="\n".join(contexts)
    )
    (place / "text").write_text(text)
    compiling = ["checkpolicy", "-U", "allow", "-o", f"{place}/binary", f"{place}/text"]
    subprocess.run(compiling, check=True, capture_output=True)
    return (place / "binary").read_bytes()


@pytest.mark.usefixtures("policy")
class TestSELinux:
    """Where it waits for a policy: the tests load a small one, which lasts until the next boot."""

    @pytest.mark.parametrize("no_new_privileges", [False, True])
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_the_program_s(self, kind: str, no_new_privileges: bool) -> None:
        fields, options = KINDS[kind]
        box = Container(no_new_privileges=no_new_privileges, selinux_label=LABEL, **fields)
        assert label_of(box, **options) == LABEL
        assert label_of(Container(**fields), **options) == STARTER
        assert Path("/proc/thread-self/attr/exec").read_text() == ""

    def test_restricts_a_program_in_a_root_of_its_own(self, box: Box) -> None:
        code = "import os; print(os.sched_getscheduler(0))"
        command = ["/usr/bin/python3", "-c", code]
        assert run(box(), command, capture_output=True).stdout == b"0\n"
        confined = run(box(selinux_label=LABEL), command, capture_output=True, text=True)
        assert "Permission denied" in confined.stderr

    def test_in_a_sandbox_of_an_ordinary_user(self) -> None:
        assert ordinary_caller("selinux_label", LABEL).rstrip("\n\0") == LABEL

    def test_that_no_new_privileges_does_not_allow_is_the_program_s_error(self) -> None:
        assert label_of(Container(selinux_label=LOOSE)) == LOOSE
        with pytest.raises(PermissionError) as caught:
            run(Container(selinux_label=LOOSE, no_new_privileges=True), ["true"])
        assert caught.value.filename == "true"

    def test_that_the_policy_does_not_know_is_refused(self) -> None:
        with pytest.raises(SpawnError, match="or has no such label loaded") as caught:
            run(Container(selinux_label=f"{LABEL}_not"), ["true"])
        assert caught.value.step.kind == "set_exec_label"
