"""Process and aio pass CPython's own tests: those of the interpreter that runs this.

The original is only asked about what does not pass here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("run_tests.py")
SHARDS = 3  # most of the tests wait for a sleeping child

PREEXEC = "preexec_fn is refused, Python can't run in the child; the test is about it"
FORK_EXEC = "replaces subprocess._fork_exec by a mock, and our child is not made by that"
WAITPID = "replaces os.waitpid by a mock; ours is wait4, which tells the usage as well"

# by name, without the class: some are in two, with and without poll(2)
CAN_NOT = {
    "test__use_vfork": FORK_EXEC,
    "test_close_fds_after_preexec": PREEXEC,
    "test_exception_errpipe_bad_data": FORK_EXEC,
    "test_exception_errpipe_normal": FORK_EXEC,
    "test_preexec": PREEXEC,
    "test_preexec_errpipe_does_not_double_close_pipes": PREEXEC,
    "test_preexec_exception": PREEXEC,
    "test_preexec_fork_failure": PREEXEC,
    "test_preexec_gc_module_failure": PREEXEC,
    "test_stopped": WAITPID,
    "test_surrogates_error_message": PREEXEC,
}
NOT_MAPPED = "an ordinary user's container has a user namespace, in which nobody has the test's id"
CAN_NOT_IN_CONTAINER = {
    "test_user": NOT_MAPPED,
    "test_group": NOT_MAPPED,
    "test_extra_groups": NOT_MAPPED,
}


NO_TRANSPORT = "looks at the transport, which is private; ours has one for each pipe"
NO_POPEN = "replaces subprocess.Popen by a mock"
CAN_NOT_IN_ASYNCIO = {
    "test_create_subprocess_fails_with_inactive_watcher": "there is no watcher that could be",
    "test_pause_reading": NO_TRANSPORT,
    "test_popen_error": NO_POPEN,
    "test_popen_error_with_stdin_pipe": NO_POPEN,
}


def outcomes(module: str, mode: str, directory: Path, names: Iterable[str] = ()) -> dict[str, str]:
    """Return how each test ended: "" if it passed, else why not."""
    found: dict[str, str] = {}
    running = []
    for shard in map(str, range(SHARDS)):
        place = directory / f"{mode}{shard}"
        place.mkdir()
        args = [module, mode, "outcomes", shard, str(SHARDS), *names]
        with open(place / "log", "wb") as log:
            running.append(
                (
                    place,
                    subprocess.Popen(
                        [sys.executable, "-P", str(SCRIPT), *args],
                        cwd=place,
                        stdout=log,
                        stderr=log,
                    ),
                )
            )
    for place, process in running:
        with process:
            assert process.wait() == 0, (place / "log").read_text(errors="replace")
        found |= json.loads((place / "outcomes").read_text())
    return found


def compare(module: str, mode: str, can_not: Iterable[str], directory: Path) -> None:
    found = None
    with suppress(ModuleNotFoundError):  # of a package above
        found = importlib.util.find_spec(module)
    if found is None:
        pytest.skip(f"no module {module} (Debian 12: libpython3.11-testsuite)")
    ours = outcomes(module, mode, directory)
    assert len(ours) > 50
    missed = {name: why for name, why in ours.items() if why}
    theirs = outcomes(module, "original", directory, missed)
    listed = {name for name in ours if name.rpartition(".")[2] in can_not}
    worse = {name: missed[name] for name, why in theirs.items() if not why and name not in listed}
    assert theirs.keys() == missed.keys()
    assert not worse, "\n\n".join(f"{name}: {why}" for name, why in worse.items())
    assert listed <= missed.keys(), "what has come to pass has no place in the list"


@pytest.mark.timeout(300)
def test_as_a_popen(tmp_path: Path) -> None:
    compare("test.test_subprocess", "replaced", CAN_NOT, tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("namespaces")
def test_in_pid_and_mount_namespaces(tmp_path: Path) -> None:
    more = CAN_NOT_IN_CONTAINER if os.geteuid() != 0 else {}
    compare("test.test_subprocess", "container", CAN_NOT | more, tmp_path)


@pytest.mark.timeout(300)
def test_as_asyncio_s(tmp_path: Path) -> None:
    compare("test.test_asyncio.test_subprocess", "asyncio", CAN_NOT_IN_ASYNCIO, tmp_path)
