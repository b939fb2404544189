"""What is built is whole, the same each time, and needs no network."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest


def test_two_wheels_of_a_source_are_the_same_bytes(built: list[Path]) -> None:
    one, other = built
    assert one.parent != other.parent
    assert one.read_bytes() == other.read_bytes()


def test_sdist_has_every_file_that_is_built_from_tested_or_read(
    checkout: Path, sdist: Path
) -> None:
    try:
        listed = subprocess.run(
            ["git", "-C", str(checkout), "ls-files"], capture_output=True, text=True, check=True
        ).stdout.split()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"git ls-files: {error}")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    ours = (".ci/", ".github/", ".gitignore")  # what only the repository needs
    assert [name for name in listed if not name.startswith(ours) and name not in packed] == []
    assert [name for name in packed if name.endswith((".so", ".pyc", "pyns-init"))] == []
