"""What there is to look at: the checkout, and wheels, made from it unless they are given."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import Container, Namespace, run

TOP = Path(__file__).parent.parent.parent
Build = Callable[..., Path]


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Skip where the tests are without what is packaged."""
    if not (TOP / "setup.py").exists():
        pytest.skip(f"{TOP / 'setup.py'} is not there: these are copied tests")
    return TOP


@pytest.fixture(scope="session")
def build(_namespaces_refused: str | None) -> Build:
    """Return what builds the sdist or the wheel of a directory, where there is no network."""
    there = importlib.metadata.packages_distributions()
    if missing := [name for name in ("build", "setuptools", "cffi") if name not in there]:
        pytest.skip(f"not installed, see the group packaging: {', '.join(missing)}")
    if _namespaces_refused:
        pytest.skip(f"unshare(CLONE_NEWNET): {_namespaces_refused}")

    def build(kind: str, source: Path, directory: Path) -> Path:
        command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation"]
        done = run(
            Container(namespaces=Namespace.NET),
            [*command, "--outdir", directory, source],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"},
        )
        assert done.returncode == 0, done.stdout
        [built] = directory.iterdir()
        return built

    return build


@pytest.fixture(scope="session")
def sdist(checkout: Path, build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sdist of the checkout."""
    return build("sdist", checkout, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def built(sdist: Path, build: Build, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two wheels of the sdist, each built in a directory of its own."""
    wheels = []
    for _ in range(2):
        source = tmp_path_factory.mktemp("source")
        with tarfile.open(sdist) as archive:
            archive.extractall(source, filter="data")
        [top] = source.iterdir()
        wheels.append(build("wheel", top, tmp_path_factory.mktemp("wheel")))
    return wheels


@pytest.fixture(scope="session")
def wheels(request: pytest.FixtureRequest) -> list[Path]:
    """Return the wheels named in PYNS_WHEELS, separated by spaces; otherwise one that is built."""
    given = [Path(name) for name in os.environ.get("PYNS_WHEELS", "").split()]
    built: list[Path] = given or request.getfixturevalue("built")[:1]
    return built
