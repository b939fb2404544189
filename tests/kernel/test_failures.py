"""Whatever step fails, the error names it, and the leak guard finds nothing."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import Bind, Container, Namespace, SpawnError, Tmpfs, clone_into

Box = Callable[..., Container]


def failure(container: Container, args: list[str] | None = None, **options: object) -> SpawnError:
    with pytest.raises(SpawnError) as caught:
        clone_into(container, args or ["true"], **options)  # type: ignore[arg-type]
    error = caught.value
    assert error.errno is not None
    assert str(error).startswith(f"step {error.index + 1} of {error.count}, ")
    assert errno.errorcode[error.errno] in str(error)
    assert pickle.loads(pickle.dumps(error)).index == error.index
    return error


@pytest.mark.usefixtures("namespaces")
class TestStep:
    def test_root_that_is_not_there(self) -> None:
        error = failure(Container(root="/does/not/exist"))
        # which of them: with the template, or with a copy of the caller's mounts
        assert error.step.kind in ("open_tree", "new_root")
        assert error.errno == errno.ENOENT
        assert "'/does/not/exist'" in str(error)
        assert error.hint

    def test_root_that_is_a_file(self) -> None:
        error = failure(Container(root="/etc/passwd"))
        assert error.step.kind in ("open_tree", "new_root")
        assert error.errno == errno.ENOTDIR

    def test_source_that_is_not_there(self, box: Box) -> None:
        error = failure(box(Bind("/does/not/exist", "/data")))
        assert (error.step.kind, error.errno) == ("open_tree", errno.ENOENT)

    def test_target_below_a_file(self, box: Box, new_root: Path) -> None:
        (new_root / "file").touch()
        error = failure(box(Tmpfs("/file/below")))
        assert (error.step.kind, error.errno) == ("attach", errno.ENOTDIR)

    def test_directory_on_a_file(self, box: Box, new_root: Path) -> None:
        (new_root / "file").touch()
        error = failure(box(Tmpfs("/file")))
        assert (error.step.kind, error.errno) == ("attach", errno.EINVAL)
        assert "both directories" in str(error)

    @pytest.mark.parametrize("link", ["nowhere", "/nowhere", "../../../../nowhere"])
    def test_target_that_is_a_link_to_nowhere(self, box: Box, new_root: Path, link: str) -> None:
        (new_root / "link").symlink_to(link)
        error = failure(box(Tmpfs("/link")))
        assert (error.step.kind, error.errno) == ("attach", errno.ELOOP)
        assert not (new_root / "nowhere").exists()
        assert not Path("/nowhere").exists()

    @pytest.mark.parametrize("link", ["/", ".", "..", "/usr/.."])
    def test_target_that_is_a_link_to_the_root(self, box: Box, new_root: Path, link: str) -> None:
        # mounted there, it would lie over the root, where nobody sees it
        (new_root / "link").symlink_to(link)
        error = failure(box(Tmpfs("/link")))
        assert (error.step.kind, error.errno) == ("attach", errno.ELOOP)

    def test_target_through_a_magic_link(self, box: Box) -> None:
        host = os.open("/", os.O_RDONLY)
        try:
            error = failure(box(Tmpfs(f"/proc/self/fd/{host}/mnt")), pass_fds=[host])
        finally:
            os.close(host)
        assert error.step.kind == "attach"
        assert error.errno in (errno.ELOOP, errno.EXDEV)

    def test_target_missing_on_a_read_only_mount(self, box: Box, tmp_path: Path) -> None:
        (tmp_path / "source").mkdir()
        error = failure(box(Bind(tmp_path / "source", "/data", read_only=True), Tmpfs("/data/new")))
        assert (error.step.kind, error.errno) == ("attach", errno.EROFS)
        assert error.hint

    def test_process_group_that_is_not_there(self) -> None:
        error = failure(Container(namespaces=Namespace.UTS), process_group=4_000_000)
        assert (error.step.kind, error.errno) == ("set_process_group", errno.EPERM)
        assert isinstance(error, PermissionError)  # as subprocess says it

    def test_mount_is_undone(self, box: Box, new_root: Path) -> None:
        failure(box(Tmpfs("/scratch"), Bind("/does/not/exist", "/data")))
        # the directory that was made for it stays, as with mkdir; the mount does not
        assert not os.path.ismount(new_root / "scratch")

    def test_exec_is_told_as_subprocess_does(self, box: Box) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            clone_into(box(), ["does-not-exist"])
        assert caught.value.filename == "does-not-exist"

    def test_cwd_is_told_as_subprocess_does(self, box: Box) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            clone_into(box(), ["true"], cwd="/etc")  # the host has one, the container not
        assert caught.value.filename == "/etc"


class TestOrdinaryUser:
    @pytest.mark.usefixtures("ordinary")
    def test_may_not_become_another(self) -> None:
        error = failure(Container(namespaces=Namespace(0)), user=os.geteuid() + 1)
        assert (error.step.kind, error.errno) == ("set_uid", errno.EPERM)
        assert isinstance(error, PermissionError)  # as subprocess says it
