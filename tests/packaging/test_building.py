"""What is built is whole, the same each time, and needs no network."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
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


def test_readme_of_the_index_leads_to_the_version_in_the_repository(
    sdist: Path, build: Callable[..., Path], tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    [top] = (tmp_path / "source").iterdir()
    settings = top / "pyproject.toml"
    urls = '[project.urls]\nSource = "https://example.org/pyns"\n\n[build-system]'
    settings.write_text(settings.read_text().replace("[build-system]", urls, 1))
    with tarfile.open(build("sdist", top, tmp_path / "built")) as archive:
        [found] = [
            name for name in archive.getnames() if name.count("/") == 1 and "PKG-INFO" in name
        ]
        file = archive.extractfile(found)
        assert file is not None
        told = email.message_from_bytes(file.read())
    readme, at = str(told.get_payload()), f"v{told['Version']}"
    assert f"](https://example.org/pyns/raw/{at}/docs/container.svg)" in readme
    assert f"\n[bwrap]: https://example.org/pyns/blob/{at}/docs/coming_from.md#bwrap\n" in readme
    links = re.findall(r"\]\(([^)\s]+)\)|^\[[^]\n]+\]: (\S+)$", readme, re.MULTILINE)
    assert len(links) > 30
    assert [link for link in map("".join, links) if not link.startswith("https://")] == []


def test_python_that_is_too_old_is_told_so(checkout: Path) -> None:
    code = (
        "import sys\n"
        "try: import cffi, setuptools.command.bdist_wheel\n"
        "except ImportError as error: sys.exit(f'skip: {error}')\n"
        "sys.version_info, sys.modules['tomllib'] = (3, 10), None\n"
        "sys.argv = ['setup.py', '--version']; exec(open('setup.py').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, timeout=60
    )
    if done.stderr.startswith("skip: "):
        pytest.skip(f"not installed, see the group packaging: {done.stderr.strip()}")
    assert done.returncode == 1
    assert done.stderr.startswith("pyns needs Python 3.11 or later: this is ")
