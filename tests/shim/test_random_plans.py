"""Whatever a plan is, spawn returns: EINVAL, a step that failed, or a program that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# with PYNS_WHOLE=1 in the environment, a hundred times as many
WHOLE = "PYNS_WHOLE" in os.environ


@pytest.mark.timeout(3600 if WHOLE else 60)
def test_no_plan_crashes_the_caller_or_leaves_anything() -> None:
    program = Path(__file__).with_name("random_plans.py")
    command = [sys.executable, "-P", str(program), "30000" if WHOLE else "200"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "malformed refused runs\n"
