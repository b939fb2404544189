"""Which system calls a child makes before it executes its program, as strace(1) sees them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from bench.floor import Start


def child_calls(start: Start, log: Path) -> Counter[str]:
    """Start a program, and return how often its process made which call up to execve."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace in PATH")
    command = [strace, "--follow-forks", f"--attach={os.getpid()}", f"--output={log}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        told = tracer.stderr.readline()
        if "attached" not in told:
            pytest.skip(f"strace: {told}")
        try:
            start()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate(timeout=30)
    calls: dict[str, list[str]] = {}
    for line in log.read_text().splitlines():
        if found := re.match(r"(\d+) +(\w+)\(", line):
            calls.setdefault(found[1], []).append(found[2])
    child = next(names for names in calls.values() if "execve" in names)
    return Counter(child[: child.index("execve")])
