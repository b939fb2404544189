"""A cgroup's directory, and how its files are read: tried with a directory of a common sort."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyns import CgroupError
from pyns.cgroups.files import Directory


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory(str(tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 32768, 100_000])
def test_text_is_whole_however_long(directory: Directory, size: int) -> None:
    Path(directory.path, "file").write_text("x" * size)
    assert directory.text("file") == directory.kept_text("file") == "x" * size


def test_kept_text_is_that_of_now(directory: Directory) -> None:
    file = Path(directory.path, "file")
    for text in ("one", "", "three"):
        file.write_text(text)
        assert directory.kept_text("file") == text


def test_what_is_kept_open_is_one_fd_and_closed_with_the_directory(directory: Directory) -> None:
    Path(directory.path, "file").touch()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        directory.kept_text("file")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    directory.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_file_that_is_not_there_has_no_text(directory: Directory) -> None:
    assert directory.text("file") is None
    assert directory.kept_text("file") is None


def test_file_that_can_not_be_read_is_an_error(directory: Directory) -> None:
    Path(directory.path, "file").mkdir()
    for read in (directory.text, directory.kept_text):
        with pytest.raises(CgroupError) as caught:
            read("file")
        assert caught.value.errno == errno.EISDIR
        assert caught.value.file == f"{directory.path}/file"


def test_bytes_that_are_no_text_are_replaced(directory: Directory) -> None:
    Path(directory.path, "file").write_bytes(b"a\xff\n")
    assert directory.text("file") == "a\ufffd\n"
