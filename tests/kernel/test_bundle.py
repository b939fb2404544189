"""An OCI bundle runs with pyns, and is in it what it is with runc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PYNS = [sys.executable, "-P", "-m", "pyns"]
SHOW = """
id -u; id -g; uname -n; pwd; echo $TERM; ls -d /proc/1 /dev/null /dev/shm /dev/ptmx
grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs' /proc/self/status; ulimit -n; cat /proc/acpi/* 2>&1 | wc -c
touch /x 2>&1; touch /proc/sys/kernel/x 2>&1; ls -d /sys/fs/cgroup; readlink /proc/self/ns/* | wc -l
"""


@pytest.fixture
def bundle(new_root: Path) -> Path:
    """Make a bundle whose root has the host's programs, as an ordinary user or root may run it."""
    runtime = shutil.which("runc") or shutil.which("crun")
    if runtime is None:
        pytest.skip("neither runc nor crun is in PATH")
    new_root.rename(new_root.with_name("rootfs"))
    directory = new_root.parent
    rootless = ["--rootless"] if os.geteuid() else []
    subprocess.run([runtime, "spec", *rootless], cwd=directory, check=True, timeout=20)
    config = json.loads((directory / "config.json").read_text())
    usr = {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}
    config["mounts"].append(usr)
    config["process"]["args"] = ["sh", "-c", SHOW]
    config["process"]["terminal"] = False
    if os.geteuid():
        config["linux"].pop("resources", None)
    (directory / "config.json").write_text(json.dumps(config))
    for each in ("proc", "sys", "dev", "usr"):
        (directory / "rootfs" / each).mkdir()
    return directory


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {
        "capture_output": True,
        "text": True,
        "timeout": 50,
        "stdin": subprocess.DEVNULL,
    } | options
    return subprocess.run(words, **options)


@pytest.mark.usefixtures("namespaces")
class TestBundle:
    def test_its_own_program_runs_as_it_says(self, bundle: Path) -> None:
        done = run(*PYNS, "run", str(bundle))
        told = [line for line in done.stderr.splitlines() if "not honoured" not in line]
        assert told == []
        lines = done.stdout.splitlines()
        assert lines[:5] == ["0", "0", "runc", "/", "xterm"]
        assert "Read-only file system" in done.stdout
        assert "NoNewPrivs:\t1" in lines

    def test_another_program_runs_in_it(self, bundle: Path) -> None:
        done = run(*PYNS, "run", str(bundle), "--", "sh", "-c", "echo $$")
        assert (done.stdout, done.returncode) == ("1\n", 0)

    def test_what_is_not_honoured_is_told(self, bundle: Path) -> None:
        config = json.loads((bundle / "config.json").read_text())
        config["linux"]["sysctl"] = {"kernel.domainname": "x"}
        (bundle / "config.json").write_text(json.dumps(config))
        done = run(*PYNS, "run", str(bundle / "config.json"), "--", "true")
        assert done.returncode == 0
        assert "pyns: not honoured: linux.sysctl.kernel.domainname: 'x'" in done.stderr

    @pytest.mark.usefixtures("privileged", "limits")
    def test_program_sees_what_it_sees_with_runc(self, bundle: Path) -> None:
        if shutil.which("runc") is None:
            pytest.skip("runc: not in PATH")
        theirs = run("runc", "run", f"pyns-test-{os.getpid()}", cwd=bundle)
        if theirs.returncode:
            pytest.skip(f"runc run: {theirs.stderr}")
        assert run(*PYNS, "run", str(bundle)).stdout == theirs.stdout
