"""What the README and the examples show is what happens."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyns import Container

TOP = Path(__file__).parent.parent.parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (TOP / "README.md").read_text(), re.DOTALL)


def python(*args: str, timeout: float = 60) -> str:
    return subprocess.run(
        [sys.executable, "-P", *args], check=True, stdout=-1, text=True, timeout=timeout
    ).stdout


def cpu_seconds(*command: str) -> float:
    """Return what a command takes on this machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.usefixtures("namespaces", "limits")
def test_stress_shows_what_the_article_promises() -> None:
    said = python(str(TOP / "examples/stress.py"))
    assert "inside:  I am PID 1 on container" in said
    assert "inside:  /proc shows the processes ['1']" in said
    parent = "/pyns" if os.geteuid() == 0 else r"/\S+"
    assert re.search(rf"inside:  \S+ cgroup {parent}/\d+-\d+-\d+-1\n", said)
    assert re.search(r"memory peak (99|100)\.\d MiB of 100", said)
    assert "the OOM killer took 1 process(es)" in said
    assert "cgroups left behind: none" in said
    assert "I got them" not in said


@pytest.mark.usefixtures("namespaces", "limits")
def test_readme_first_example() -> None:
    said = python("-c", blocks("python")[0])
    assert said.startswith("I am 1 on demo\n")
    assert "Usage(wall_seconds=" in said


@pytest.mark.usefixtures("namespaces", "limits")
def test_readme_ten_lines() -> None:
    said = python("-c", blocks("python")[1])
    # no names: the new root has no /etc/passwd
    assert said.startswith(f"uid={os.geteuid()} gid={os.getegid()}")


@pytest.mark.usefixtures("privileged")
def test_readme_plan() -> None:
    shown = blocks("python")[2].partition("\n")[2].rstrip()
    shown = shown.replace("'/root'", repr(os.getcwd()))
    shown = re.sub(r"of \d+ places", f"of {len(os.get_exec_path())} places", shown)
    assert str(Container(hostname="box").plan(["id"])) == shown


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("namespaces", "limits")
def test_judge_knows_the_worth_of_submissions(tmp_path: Path) -> None:
    submissions, tests = tmp_path / "submissions", tmp_path / "tests"
    for directory in (submissions, tests):
        directory.mkdir()
    for name, source in {
        "right.py": "print(sum(map(int, input().split())))",
        "wrong.py": "print(41)",
        "slow.py": "while True: pass",
        "greedy.py": "x = bytearray(1 << 30)",
        "loud.py": "while True: print('x' * 1000)",
        "crash.sh": "kill -SEGV $$",
        "liar.sh": "echo 42; exit 137",
        "broken.c": "int main(void) { return x; }",
        "right.c": '#include <stdio.h>\nint main(void) { int a, b; scanf("%d %d", &a, &b);'
        'printf("%d\\n", a + b); return 0; }',
    }.items():
        (submissions / name).write_text(source)
    (tests / "1.in").write_text("20 22\n")
    (tests / "1.out").write_text("42\n")
    script = str(TOP / "examples/judge.py")
    told = tmp_path / "verdicts.json"
    # enough for the greedy one to have all its memory, also where the CPU is emulated
    enough = max(1, 3 * cpu_seconds("python3", "-c", "x = bytearray(256 << 20)"))
    options = ["--cpu-time", str(enough), "--json", str(told)]
    said = python(script, str(submissions), str(tests), *options, timeout=280)
    words = {each["submission"]: each["word"] for each in json.loads(told.read_text())}
    if shutil.which("cc") is None:
        words |= {"broken.c": "compile error", "right.c": "ok"}
    assert words == {
        "right.py": "ok",
        "wrong.py": "wrong answer",
        "slow.py": "time limit",
        "greedy.py": "memory limit",
        "loud.py": "output limit",
        "crash.sh": "crash",
        "liar.sh": "exit status 137",
        "broken.c": "compile error",
        "right.c": "ok",
    }
    assert len(said.splitlines()) == len(words)


@pytest.mark.usefixtures("namespaces", "limits")
def test_benchmark_harness_tells_time_and_memory() -> None:
    cpu = str(min(os.sched_getaffinity(0)))
    script = str(TOP / "examples/benchmark_harness.py")
    said = python(script, "--runs", "5", "--cpu", cpu, "sh", "-c", "true & true")
    lines = said.splitlines()
    assert lines[0] == f"5 runs on CPU {cpu}"
    assert [line.split()[0] for line in lines[1:]] == ["wall", "user", "system", "peak"]
    assert float(lines[1].split()[1]) > 0
