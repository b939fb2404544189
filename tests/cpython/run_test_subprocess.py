"""Runs CPython's own tests of subprocess with Popen replaced, in a process of its own.

Usage: run_test_subprocess.py {original,replaced,container} OUTCOMES SHARD SHARDS [NAME ...]

Writes to the file OUTCOMES a JSON object of how each test ended: "" if it passed, else why not.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyns


def replace_popen(container: pyns.Container | None) -> None:
    class Popen(pyns.Process):  # its name is in its repr
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, container=container, **options)

    # run, call, check_output, ... look it up there
    subprocess.Popen = Popen  # type: ignore[misc]


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def main(mode: str, outcomes: str, shard: int, shards: int, names: list[str]) -> None:
    if mode == "replaced":
        replace_popen(None)
    elif mode == "container":
        # with an init: PID 1 can't kill itself, and ignores most signals
        kinds = pyns.Namespace.PID | pyns.Namespace.MOUNT
        replace_popen(pyns.Container(namespaces=kinds, init=True))

    # not before: it derives classes of its own from Popen
    module = importlib.import_module("test.test_subprocess")
    vars(importlib.import_module("test.support"))["use_resources"] = ()  # -u none
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    tests = [test for test in tests_of(suite) if not names or test.id() in names][shard::shards]
    result = unittest.TestResult()
    unittest.TestSuite(tests[:]).run(result)
    found = {test.id(): "" for test in tests}
    for unfit, why in result.errors + result.failures + result.skipped:
        found[getattr(unfit, "test_case", unfit).id()] = why  # a subtest is part of one
    Path(outcomes).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
