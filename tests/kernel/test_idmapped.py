"""What is bound with other ids: whose files are seen inside, and whose are made on the disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyns import Bind, Container, Dir, IdMap, Namespace, Proc, SpawnError, Tmpfs, clone_into, run

pytestmark = pytest.mark.usefixtures("namespaces")

Shell = Callable[..., str]
RANGE = (IdMap(0, 100000, 65536),)
OWNERS = "cd /mnt; stat -c '%n %u %g' *"


def in_user_namespace(*mounts: Any, **fields: Any) -> Container:
    """Describe a container whose root is 100000 outside."""
    maps = {"uid_map": RANGE, "gid_map": RANGE, **fields}
    namespaces = Container().namespaces | Namespace.USER
    return Container(namespaces=namespaces, mounts=(Proc(), *mounts), **maps)


@pytest.fixture
def owned(tmp_path: Path) -> Path:
    """Make a directory with files of several owners."""
    path = tmp_path / "owned"
    path.mkdir()
    for uid in (0, 5, 1000):
        (path / str(uid)).touch(mode=0o600)
    if os.geteuid() == 0:
        for uid in (0, 5, 1000):
            os.chown(path / str(uid), uid, uid + 1)
    path.chmod(0o777)
    return path


@pytest.fixture
def maps_ids(owned: Path) -> None:
    """Skip where the kernel maps no ids of what is here."""
    try:
        clone_into(Container(mounts=(Bind(owned, "/mnt", idmap=RANGE),)), ["true"]).wait()
    except SpawnError as error:
        pytest.skip(str(error))


def refusal(container: Container, **options: Any) -> SpawnError:
    with pytest.raises(SpawnError) as caught:
        clone_into(container, ["true"], **options)
    assert caught.value.step.kind == "take_mount"
    return caught.value


@pytest.mark.usefixtures("maps_ids")
class TestIds:
    def test_on_the_disk_are_others_inside(self, shell: Shell, owned: Path) -> None:
        mount = Bind(owned, "/mnt", idmap=[IdMap(1000, 5, 2), IdMap(5, 1000, 2)])
        # 0 has no range, nor has 1: the overflow ids
        assert shell(Container(mounts=(mount,)), OWNERS).splitlines() == [
            "0 65534 65534",
            "1000 5 6",
            "5 1000 1001",
        ]
        assert [(owned / n).stat().st_uid for n in ("0", "5", "1000")] == [0, 5, 1000]

    def test_of_the_program_make_files_of_those_on_the_disk(
        self, shell: Shell, owned: Path
    ) -> None:
        os.chown(owned, 1000, 1000)
        mount = Bind(owned, "/mnt", idmap=[IdMap(1000, 0)])
        script = "cd /mnt; mkdir made; touch made/file; chown 0:0 made/file; stat -c %u made/file"
        assert shell(Container(mounts=(mount,)), script) == "0"
        made = (owned / "made/file").stat()
        assert (made.st_uid, made.st_gid) == (1000, 1000)

    def test_that_the_disk_does_not_have_make_nothing(self, owned: Path) -> None:
        mount = Bind(owned, "/mnt", idmap=[IdMap(1000, 5)])
        script = "touch /mnt/new || chown 7 /mnt/1000"
        done = run(Container(mounts=(mount,)), ["sh", "-c", script], capture_output=True, text=True)
        assert done.stderr.count("Value too large") == 2
        assert not (owned / "new").exists()

    def test_without_a_range_are_nobodys_and_let_nobody_write(self, owned: Path) -> None:
        (owned / "0").chmod(0o666)
        box = Container(mounts=(Bind(owned, "/mnt", idmap=[IdMap(1000, 0)]),))
        script = "cat /mnt/0 && echo x >> /mnt/0"
        done = run(box, ["sh", "-c", script], capture_output=True, text=True)
        assert "Permission denied" in done.stderr
        assert (owned / "0").read_text() == ""

    @pytest.mark.parametrize("capabilities", [None, ()], ids=["first", "last"])
    def test_of_the_containers_user_namespace(
        self, shell: Shell, owned: Path, capabilities: tuple[str, ...] | None
    ) -> None:
        # the user namespace is entered at first or, without capabilities, at last
        mount = Bind(owned, "/mnt", idmap=Namespace.USER)
        box = in_user_namespace(mount, capabilities=capabilities)
        script = f"{OWNERS}; touch new; stat -c %u new"
        assert shell(box, script, cwd="/").splitlines() == ["0 0 1", "1000 1000 1001", "5 5 6", "0"]
        assert (owned / "new").stat().st_uid == 0

    def test_may_differ_for_users_and_groups(self, shell: Shell, owned: Path) -> None:
        mount = Bind(owned, "/mnt", idmap=Namespace.USER)
        uid_map, gid_map = [IdMap(0, 100000), IdMap(5, 7)], [IdMap(0, 200000), IdMap(6, 8)]
        box = in_user_namespace(mount, uid_map=uid_map, gid_map=gid_map)
        assert shell(box, OWNERS, cwd="/").splitlines() == [
            "0 0 65534",
            "1000 65534 65534",
            "5 5 6",
        ]

    def test_decide_who_may_read(self, owned: Path) -> None:
        (owned / "1000").write_text("secret")
        for idmap, status in (([IdMap(1000, 65534)], 0), ([IdMap(1000, 65533)], 1)):
            box = Container(mounts=(Bind(owned, "/mnt", idmap=idmap),))
            done = run(
                box, ["cat", "/mnt/1000"], user=65534, group=65534, extra_groups=[], cwd="/",
                capture_output=True,
            )  # fmt: skip
            assert done.returncode == status

    def test_hold_for_the_mounts_below_if_recursive(self, owned: Path) -> None:
        # made in an outer container, whose pyns makes the inner one
        outer = Container(
            mounts=(Proc(), Tmpfs(owned), Dir(owned / "below"), Tmpfs(owned / "below"))
        )
        code = f"""
import os, sys
from pyns import *
for path in "{owned}/a", "{owned}/below/b":
    open(path, "w").close()
    os.chown(path, 1000, 1000)
for recursive in True, False:
    box = Container(mounts=[Bind("{owned}", "/mnt", recursive=recursive, idmap=[IdMap(1000, 5)])])
    run(box, ["sh", "-c", "cd /mnt; stat -c '%n %u' a below/b; true"])
"""
        done = run(outer, [sys.executable, "-P", "-c", code], capture_output=True, text=True)
        if "EINVAL" in done.stderr:
            pytest.skip(f"tmpfs: {done.stderr.splitlines()[-1]}")
        assert done.stdout.splitlines() == ["a 5", "below/b 5", "a 5"]

    def test_with_the_other_options(self, box: Any, shell: Shell, owned: Path) -> None:
        (owned / "program").write_text("#!/bin/sh\n")
        (owned / "program").chmod(0o755)
        mount = Bind(owned, "/x/y", read_only=True, noexec=True, idmap=[IdMap(0, 0, 2000)])
        script = "stat -c %u /x/y/5; touch /x/y/n 2>&1 || /x/y/program 2>&1 || true"
        said = shell(box(mount), script).splitlines()
        assert said[0] == "5"
        assert "Read-only file system" in said[1]
        assert "Permission denied" in said[2]

    def test_of_several_are_each_its_own(self, shell: Shell, owned: Path) -> None:
        places = [f"/mnt/{n}" for n in range(3)]
        maps = ([IdMap(5, 10)], [IdMap(5, 11)], [IdMap(5, 10)])
        binds = [Bind(owned, p, idmap=m) for p, m in zip(places, maps, strict=True)]
        box = Container(mounts=(Tmpfs("/mnt"), *binds))
        for _ in range(2):  # and once more, from what was remembered
            assert shell(box, "stat -c %u /mnt/*/5").split() == ["10", "11", "10"]

    def test_of_a_file_and_with_an_init(self, shell: Shell, owned: Path) -> None:
        mount = Bind(owned / "5", "/etc/hostname", idmap=[IdMap(0, 0, 10)])
        box = Container(mounts=(Proc(), mount), init=True)
        assert shell(box, "stat -c %u /etc/hostname") == "5"


@pytest.fixture
def shared(owned: Path) -> Iterator[Path]:
    """Make it a shared mount, as every mount is under systemd."""
    subprocess.run(["mount", "--bind", owned, owned], check=True)
    try:
        subprocess.run(["mount", "--make-shared", owned], check=True)
        (owned / "sub").mkdir()
        yield owned
    finally:
        subprocess.run(["umount", "-R", owned], check=True)


@pytest.mark.usefixtures("privileged", "maps_ids")
@pytest.mark.parametrize("propagation", ["private", "slave", "shared"])
def test_of_a_shared_mount_nothing_gets_out(shell: Shell, shared: Path, propagation: str) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    mounts = (Proc(), Bind(shared, "/mnt", idmap=RANGE), Tmpfs("/mnt/sub"))
    said = shell(
        Container(mounts=mounts, propagation=propagation),
        "mount -t tmpfs none /mnt/sub; cat /proc/self/mountinfo",
    )
    assert said.count(" /mnt/sub ") == 2
    (copy,) = (line for line in said.splitlines() if line.split()[4] == "/mnt")
    assert "master:" not in copy
    assert Path("/proc/self/mountinfo").read_text() == before


class TestRefusal:
    @pytest.mark.usefixtures("privileged", "maps_ids")
    @pytest.mark.parametrize("path", ["/proc", "/sys"])
    def test_of_a_filesystem_without_them_is_a_step(self, path: str) -> None:
        error = refusal(Container(mounts=(Bind(path, "/mnt", idmap=RANGE),)))
        assert error.errno == errno.EINVAL
        assert "Not every filesystem has idmapped mounts" in str(error)

    @pytest.mark.usefixtures("privileged", "maps_ids")
    def test_of_what_is_not_there_is_a_step(self, tmp_path: Path) -> None:
        error = refusal(Container(mounts=(Bind(tmp_path / "x", "/mnt", idmap=RANGE),)))
        assert error.errno == errno.ENOENT
        assert "source is a path of the caller's" in str(error)

    @pytest.mark.usefixtures("privileged", "maps_ids")
    def test_leaves_nothing_of_the_others(self, owned: Path) -> None:
        mounts = (Bind(owned, "/mnt", idmap=RANGE), Bind("/proc", "/mnt", idmap=RANGE))
        assert refusal(Container(mounts=mounts)).errno == errno.EINVAL
        mounts = (Bind(owned, "/mnt", idmap=RANGE), Bind(owned / "missing", "/mnt"))
        with pytest.raises(SpawnError) as caught:
            clone_into(Container(mounts=mounts), ["true"])
        assert caught.value.step.kind == "open_tree"

    @pytest.mark.usefixtures("ordinary")
    @pytest.mark.parametrize("idmap", [[IdMap(0, 5)], Namespace.USER])
    def test_of_an_ordinary_user_is_a_step(self, owned: Path, idmap: Any) -> None:
        namespaces = Container().namespaces | Namespace.USER
        box = Container(namespaces=namespaces, mounts=(Bind(owned, "/mnt", idmap=idmap),))
        error = refusal(box)
        assert error.errno == errno.EPERM
        assert "root on the host" in str(error)

    def test_of_root_in_a_user_namespace_is_a_step(self, owned: Path) -> None:
        # what the kernel says to the bare calls: EINVAL for a filesystem without them, else EPERM
        script = """
import ctypes, os, struct, sys
from pyns import *
libc = ctypes.CDLL(None, use_errno=True)
tree = libc.syscall(428, -100, sys.argv[1].encode(), 1)  # open_tree, OPEN_TREE_CLONE
ids = os.open("/proc/self/ns/user", os.O_RDONLY)
attributes = struct.pack("QQQQ", 0x100000, 0, 0, ids)  # MOUNT_ATTR_IDMAP
assert libc.syscall(442, tree, b"", 0x1000, attributes, 32) == -1  # mount_setattr, AT_EMPTY_PATH
print(ctypes.get_errno())
try:
    box = Container(mounts=[Bind(sys.argv[1], "/mnt", idmap=[IdMap(0, 0)])])
    run(box, ["true"])
except SpawnError as error: print(error.step.kind, error.errno, error.hint)
"""
        outer = Container(
            namespaces=Container().namespaces | Namespace.USER,
            uid_map=IdMap.current("uid", 0),
            gid_map=IdMap.current("gid", 0),
        )
        command = [sys.executable, "-P", "-c", script, str(owned)]
        said = run(outer, command, capture_output=True, text=True, check=True).stdout
        refused, told = said.splitlines()
        hint = {
            errno.EPERM: "It takes CAP_SYS_ADMIN in the user",
            errno.EINVAL: "Not every filesystem has idmapped mounts",
        }[int(refused)]
        assert told.startswith(f"take_mount {refused} {hint}")
