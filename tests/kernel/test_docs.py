"""What docs/*.md shows is what happens: each Python block runs, by itself, and says what is shown.

So do the shell's on pages that are in SHELL_PAGES; a `#` is the prompt of root.

A block that does not hold everywhere names the fixtures that it needs in a comment before it:

    <!-- needs: limits, hybrid -->

Output is compared with doctest's ELLIPSIS; that of a ```python block, or of a program that is
included, is the ```text block after it.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pyns import CgroupError, Limits, Namespace, kernel
from pyns.cgroups import Hierarchy, IoMax, hierarchies, v1, v2
from pyns.cgroups.limits import Write
from pyns.namespaces.kinds import FILES

DOCS = Path(__file__).parent.parent.parent / "docs"
SHELL_PAGES = {"cli.md", "namespaces.md"}
BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>[^\n]*) -->\n)?"
    r"^```(?P<language>python|pycon|console|\{literalinclude\} (?P<file>\S+\.py))\n"
    r"(?P<source>.*?)^```\n"
    r"(?:\n?^```text\n(?P<output>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)


# pids, and how long PATH is
DIFFERS = re.compile(r"\b(I am|the child of|calls me|first found of) \d{2,}\b")


class Block(NamedTuple):
    page: str
    line: int
    language: str
    source: str
    output: str | None
    needs: list[str]


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text()
    return [
        Block(
            str(path.relative_to(DOCS)),
            text.count("\n", 0, found.start("source")),
            found["language"].split()[0],
            (path.parent / found["file"]).read_text() if found["file"] else found["source"],
            found["output"],
            (found["needs"] or "").replace(",", " ").split(),
        )
        for found in BLOCK.finditer(text)
        if found["language"] != "console" or path.name in SHELL_PAGES
    ]


BLOCKS = [block for path in sorted(DOCS.rglob("*.md")) for block in blocks_of(path)]


def test_every_block_is_found() -> None:
    text = "".join(path.read_text() for path in DOCS.rglob("*.md"))
    shell = "".join((DOCS / name).read_text() for name in SHELL_PAGES)
    starts = ("\n```py", "\n```{literalinclude} ")
    assert len(BLOCKS) == sum(map(text.count, starts)) + shell.count("\n```console") > 0
    assert len([block for block in BLOCKS if block.needs]) == text.count("<!-- needs:")


@pytest.fixture
def hybrid() -> None:
    """Skip but for root where each controller has a v1 hierarchy of its own, beside v2."""
    found = {h.controllers: (h.version, h.mount_point) for h in hierarchies()}
    shown = {
        (name,): (1, f"/sys/fs/cgroup/{name}") for name in ("cpu", "cpuacct", "memory", "pids")
    }
    on_v2 = (2, "/sys/fs/cgroup/unified")
    if os.geteuid() or not shown.items() <= found.items() or on_v2 not in found.values():
        pytest.skip(f"the page shows root's hybrid layout, {shown} and {on_v2}; here is {found}")


@pytest.fixture
def pure_v2() -> None:
    """Skip but for root where v2 has everything, in the usual place."""
    found = {h.mount_point: h.version for h in hierarchies()}
    if os.geteuid() or found != {"/sys/fs/cgroup": 2}:
        pytest.skip(f"the page shows root's v2 on /sys/fs/cgroup; here is {found}")


@pytest.fixture
def root() -> None:
    """Skip but for root."""
    if os.geteuid() != 0:
        pytest.skip(f"geteuid() is {os.geteuid()}: the prompt is root's")


@pytest.fixture
def ip() -> None:
    """Skip where ip(8) is missing."""
    if shutil.which("ip") is None:
        pytest.skip("ip: not in PATH")


@pytest.fixture
def runc() -> None:
    """Skip where runc(8) is missing."""
    if shutil.which("runc") is None:
        pytest.skip("runc: not in PATH")


@pytest.fixture
def usr_python() -> None:
    """Skip where the host's programs, which a sandbox has, are without Python."""
    if not os.path.exists("/usr/bin/python3"):
        pytest.skip("/usr/bin/python3: not there")


@pytest.fixture
def time() -> None:
    """Skip where the program does not get into a new time namespace."""
    if not kernel.is_at_least((6, 2), os.uname().release):
        pytest.skip(f"execve enters a time namespace since 6.2, not {os.uname().release}")


@pytest.fixture
def mounting(tmp_path: Path) -> None:
    """Skip where this user may not mount the v1 hierarchy that the page mounts."""
    try:
        Hierarchy.mount(str(tmp_path), controllers=["net_cls", "net_prio"]).unmount()
    except CgroupError as error:
        pytest.skip(str(error))


def output_of_script(block: Block, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", block.source],
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def session_of_shell(block: Block, directory: Path) -> str:
    """Return what a terminal would show: each command after its prompt, and what it printed."""
    script = ["exec 2>&1"]
    for command in re.findall(r"^[#$] .*(?:\n> .*)*", block.source, re.MULTILINE):
        script += [
            f"printf '%s\\n' {shlex.quote(command)}",
            re.sub(r"^. ", "", command, flags=re.M),
        ]
    # with the command that is installed beside this interpreter
    path = f"{sysconfig.get_path('scripts')}:{os.environ.get('PATH', os.defpath)}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=directory,
        timeout=30,
        env=os.environ | {"PATH": path},
    )
    return done.stdout


def complaints_of_doctest(block: Block) -> str:
    test = doctest.DocTestParser().get_doctest(
        block.source, {"__name__": "__main__"}, block.page, block.page, block.line
    )
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_block_says_what_is_shown(
    block: Block, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for name in block.needs:
        request.getfixturevalue(name)
    block = block._replace(source=block.source.replace("/mnt", str(tmp_path)))
    if block.language == "pycon":
        assert complaints_of_doctest(block) == ""
        return
    if block.language == "console":
        said, shown = (
            re.sub(r"\b40\d{8}\b", "INODE", text)
            for text in (session_of_shell(block, tmp_path), block.source)
        )
        assert doctest.OutputChecker().check_output(
            shown, said, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        ), said
        return
    said = output_of_script(block, tmp_path)
    if block.output is not None:
        shown, said = (DIFFERS.sub(r"\1 ...", text) for text in (block.output, said))
        assert doctest.OutputChecker().check_output(shown, said, doctest.ELLIPSIS), said


def test_every_example_is_on_a_page() -> None:
    shown = {source for _, _, _, source, _, _ in BLOCKS}
    steps = sorted((DOCS.parent / "examples" / "ten_steps").glob("*.py"))
    assert len(steps) == 10
    assert {path.read_text() for path in steps} <= shown


# one of each, as no version refuses it
SAMPLES: dict[str, Any] = {
    "memory_max": "100M",
    "memory_high": "80M",
    "memory_low": "10M",
    "memory_min": "10M",
    "memory_swap_max": 0,
    "memory_oom_group": True,
    "pids_max": 10,
    "cpu_max": 0.5,
    "cpu_max_burst": 0.1,
    "cpu_weight": 50,
    "cpu_idle": True,
    "cpuset_cpus": "0",
    "cpuset_mems": "0",
    "io_max": [IoMax("254:0", rbps=2, wbps=2, riops=2, wiops=2)],
    "io_weight": 50,
    "hugetlb_max": {"2MB": 0},
    "devices": ["c 1:3 rwm"],
}


def page() -> str:
    return (DOCS / "cgroups.md").read_text()


def rows_of_limits() -> dict[str, tuple[str, str]]:
    """Return what the table of limits says: limit → v2, v1."""
    table = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", page(), re.MULTILINE)
    return {name: (of_v2, of_v1) for name, of_v2, of_v1 in table if name in SAMPLES}


def files_written(writes: Callable[[Limits], list[Write]], **limits: Any) -> set[str]:
    """Return the files that limits are written to, none where there is no word for them."""
    try:
        written = writes(Limits(**limits))
    except ValueError:
        return set()
    return {write.file for write in written} | {write.also[0] for write in written if write.also}


def test_table_of_limits_is_whole() -> None:
    limits = {field.name for field in fields(Limits)} - {"extra"}
    assert SAMPLES.keys() == limits
    assert rows_of_limits().keys() == limits


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(("column", "writes"), [(0, v2.writes), (1, v1.writes)], ids=["v2", "v1"])
def test_table_of_limits_names_the_files_that_are_written(
    name: str, column: int, writes: Callable[[Limits], list[Write]]
) -> None:
    # v1 has a limit of swap only beside one of memory
    beside: dict[str, Any] = {"memory_max": "100M"} if name == "memory_swap_max" else {}
    written = files_written(writes, **{name: SAMPLES[name]}, **beside)
    written -= files_written(writes, **beside)
    said = rows_of_limits()[name][column]
    assert said.startswith("no word for it") == (not written)
    assert written <= set(re.findall(r"`([\w.<>]+)`", said.replace("<size>", "2MB")))


def test_table_of_namespaces_is_whole() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `(CLONE_NEW\w+)` \| `(\w+)` \|",
        (DOCS / "namespaces.md").read_text(),
        re.MULTILINE,
    )
    assert rows == [
        (kind.name, f"CLONE_NEW{'NS' if kind == Namespace.MOUNT else kind.name}", FILES[kind])
        for kind in map(Namespace.__getitem__, (name for name, _, _ in rows))
    ]
    assert len(rows) == len(FILES)


def test_tests_that_the_page_of_the_sandbox_names_are_there() -> None:
    named = set(re.findall(r"`(Test\w+|test_\w+)(?:\.py)?`", (DOCS / "sandbox.md").read_text()))
    files = list(Path(__file__).parent.glob("test_*.py"))
    text = "\n".join(path.read_text() for path in files)
    there = {path.stem for path in files} | set(re.findall(r"(?:class|def) (\w+)", text))
    assert len(named) > 15
    assert named <= there


def test_pictures_are_there() -> None:
    for path in (*DOCS.rglob("*.md"), DOCS.parent / "README.md"):
        for picture in re.findall(r"!\[[^]]*\]\((.*?)\)", path.read_text()):
            assert (path.parent / picture).is_file()
