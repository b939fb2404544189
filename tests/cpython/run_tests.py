"""Runs CPython's own tests with what they test replaced, in a process of its own.

Usage: run_tests.py MODULE {original,replaced,container,asyncio} OUTCOMES SHARD SHARDS [NAME ...]

Writes to the file OUTCOMES a JSON object of how each test ended: "" if it passed, else why not.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import subprocess
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyns
from pyns import aio


def replace_popen(container: pyns.Container | None) -> None:
    class Popen(pyns.Process):  # its name is in its repr
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, container=container, **options)

    # run, call, check_output, ... look it up there
    subprocess.Popen = Popen  # type: ignore[misc]


def replace_asyncio() -> None:
    nothing = pyns.Container(namespaces=pyns.Namespace(0))
    for name in ("create_subprocess_exec", "create_subprocess_shell"):
        create = functools.partial(vars(aio)[name], nothing)
        vars(asyncio)[name] = vars(asyncio.subprocess)[name] = create


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def main(name: str, mode: str, outcomes: str, shard: str, shards: str, *names: str) -> None:
    if mode == "replaced":
        replace_popen(None)
    elif mode == "container":
        # with an init: PID 1 can't kill itself, and ignores most signals
        kinds = pyns.Namespace.PID | pyns.Namespace.MOUNT
        replace_popen(pyns.Container(namespaces=kinds, init=True))
    elif mode == "asyncio":
        replace_asyncio()

    # not before: it derives classes of its own from Popen
    module = importlib.import_module(name)
    vars(importlib.import_module("test.support"))["use_resources"] = ()  # -u none
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    tests = [test for test in tests_of(suite) if not names or test.id() in names][
        int(shard) :: int(shards)
    ]
    result = unittest.TestResult()
    unittest.TestSuite(tests[:]).run(result)
    found = {test.id(): "" for test in tests}
    for unfit, why in result.errors + result.failures + result.skipped:
        found[getattr(unfit, "test_case", unfit).id()] = why  # a subtest is part of one
    Path(outcomes).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
