"""An error of the start comes as an exception and by no other way; a result is never one."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyns import Bind, Container, run

pytestmark = pytest.mark.usefixtures("namespaces")

BOXES = {
    "pid 1": Container(),
    "init": Container(init=True),
    "sandbox": Container.sandbox(limits=None),
}
PIPE = subprocess.PIPE
# what a foreign machine's program begins with (elf(5)): 64 bits, EM_S390
FOREIGN = b"\x7fELF\x02\x02\x01" + bytes(9) + struct.pack(">HHI", 2, 22, 1) + bytes(40)
# they would say "shell" if anybody handed them to one
NOT_EXECUTABLE = {"text": b"echo shell\n", "empty": b"", "foreign": FOREIGN + b"\necho shell\n"}


@pytest.fixture(params=BOXES)
def box(request: pytest.FixtureRequest) -> Container:
    return BOXES[request.param]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Make files of mode 755 that the kernel can't execute; everybody may look at them."""
    for above in (tmp_path, *tmp_path.parents[:2]):
        above.chmod(0o755)
    for name, content in NOT_EXECUTABLE.items():
        tmp_path.joinpath(name).write_bytes(content)
        tmp_path.joinpath(name).chmod(0o755)
    return tmp_path


def with_programs(box: Container, programs: Path) -> Container:
    mounts = (*box.all_mounts, Bind(programs, "/tmp/programs"))
    return replace(box, mounts=mounts)


@pytest.mark.parametrize("status", [1, 2, 125, 126, 127, 128 + 9, 255])
def test_a_status_that_others_use_for_errors_is_one_like_any_other(
    box: Container, status: int
) -> None:
    said = "step 1 of 9, execute: No such file or directory (ENOENT)"
    done = run(box, ["sh", "-c", f"echo '{said}' >&2; exit {status}"], stderr=PIPE, text=True)
    assert (done.returncode, done.stderr) == (status, f"{said}\n")


def test_the_program_can_not_tell_in_our_place(box: Container) -> None:
    # what pyns-init writes: the last step and its errno, then a wait status; to wherever it can
    report = struct.pack("=Iii", 3, errno.ENOENT, 7 << 8).hex()
    text = "".join(f"\\{byte:03o}" for byte in bytes.fromhex(report))
    script = (
        f"for fd in 3 4 5 6 7 8 9; do eval \"printf '{text}' >&$fd\"; done 2>/dev/null\n"
        "for file in /proc/[0-9]*/fd/*; do\n"
        f"  case $(readlink $file) in pipe:*) printf '{text}' >$file;; esac\n"
        "done 2>/dev/null\n"
        "exit 5"
    )
    done = run(box, ["sh", "-c", script], stdin=-3, stdout=-3, stderr=-3)
    # the host's root, with his capabilities, may lie about the status (docs/pid1.md)
    if os.geteuid() != 0 or box.capabilities == ():
        assert done.returncode == 5


@pytest.mark.parametrize("name", NOT_EXECUTABLE)
def test_what_the_kernel_can_not_execute_goes_to_no_shell(
    box: Container, programs: Path, name: str
) -> None:
    inside = with_programs(box, programs)
    for program, env in (
        (f"/tmp/programs/{name}", None),
        (name, {"PATH": "/none:/tmp/programs:/etc"}),
    ):
        options: dict[str, Any] = {} if env is None else {"env": env}
        reader, writer = os.pipe()
        with open(reader, "rb") as output:
            with open(writer, "wb") as file, pytest.raises(OSError, match=name) as caught:
                run(inside, [program], stdout=file, stderr=file, **options)
            assert output.read() == b""
        assert caught.value.errno == errno.ENOEXEC
        assert caught.value.filename == program


def test_a_program_that_is_not_there_leaves_no_result(box: Container) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        run(box, ["/does/not/exist"], capture_output=True)
    assert caught.value.filename == "/does/not/exist"


def test_an_interpreter_that_is_not_there_is_told_with_the_program_s_name(
    box: Container, programs: Path
) -> None:
    script = programs / "script"
    script.write_text("#!/does/not/exist\n")
    script.chmod(0o755)
    with pytest.raises(FileNotFoundError) as caught:
        run(with_programs(box, programs), ["/tmp/programs/script"])
    assert caught.value.filename == "/tmp/programs/script"
