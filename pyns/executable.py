"""Why a file can't be executed: what it is, and what it needs that is not there."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from resource import RLIMIT_STACK, getrlimit
from typing import NamedTuple

from pyns.inside import Inside, Place, UnknownError
from pyns.rlimits import SetRlimit
from pyns.steps import Execute, Step

# <elf.h>, by the names that uname(2) has for them
MACHINES = {
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
# what else the kernel of a machine may run, and why this one does not
_ALSO = {
    ("x86_64", "i386"): "it was built without CONFIG_IA32_EMULATION, or told ia32_emulation=0",
    ("x86_64", "x32"): "it was built without CONFIG_X86_X32_ABI",
}
_PT_INTERP = 3
_ET_EXEC, _ET_DYN = 2, 3
_OTHER_KINDS = {1: "an object file, to be linked first", 4: "a core dump"}
_HEADER_MAX = 64 * 1024  # where program headers and the loader's name are, as a rule
_LINE_MAX = 256  # BINPRM_BUF_SIZE
_STRING_MAX = 128 * 1024  # MAX_ARG_STRLEN, on pages of 4 KiB
_SCRIPTS_MAX = 4  # an interpreter may be a script itself


class Elf(NamedTuple):
    """What an ELF file says about itself (elf(5)).

    Attributes:
        machine: as uname(2) calls it; None for one that has no name here.
        loader: path of the dynamic loader that it asks for; None for a static one.
    """

    machine: str | None
    loader: bytes | None


def read_elf(content: bytes) -> Elf | None:
    """Return what the beginning of a file says; None if it is no ELF file, or cut off.

    Example:
        >>> read_elf(b"#!/bin/sh") is None
        True
    """
    if len(content) < 64 or content[:4] != b"\x7fELF" or content[4] not in (1, 2):
        return None
    order = ">" if content[5] == 2 else "<"
    (number,) = struct.unpack_from(f"{order}H", content, 18)
    is_64 = content[4] == 2
    (start,) = struct.unpack_from(f"{order}{'Q' if is_64 else 'I'}", content, 32 if is_64 else 28)
    size, count = struct.unpack_from(f"{order}HH", content, 54 if is_64 else 42)
    machine = MACHINES.get(number)
    if machine == "x86_64" and not is_64:
        machine = "x32"
    for header in range(start, start + size * count, size or 1):
        with suppress(struct.error):  # beyond what was read
            (kind,) = struct.unpack_from(f"{order}I", content, header)
            if kind == _PT_INTERP:
                at, length = (
                    struct.unpack_from(f"{order}Q16xQ", content, header + 8)
                    if is_64
                    else struct.unpack_from(f"{order}I8xI", content, header + 4)
                )
                name = content[at : at + length]
                return Elf(machine, name.rstrip(b"\0")) if len(name) == length else None
    return Elf(machine, None)


def why_broken(content: bytes, size: int) -> str | None:
    r"""Return what keeps the kernel from taking an ELF file for a program; None if nothing does.

    Args:
        content: its beginning.
        size: bytes that it has.

    Example:
        >>> why_broken(b"\x7fELF", 4)
        'is cut off: it has 4 bytes, and its ELF header alone would have 52'
    """
    is_64, order = content[4:5] == b"\2", ">" if content[5:6] == b"\2" else "<"
    header, entry = (64, 56) if is_64 else (52, 32)
    if size < header:
        return f"is cut off: it has {size} bytes, and its ELF header alone would have {header}"
    (kind,) = struct.unpack_from(f"{order}H", content, 16)
    if kind not in (_ET_EXEC, _ET_DYN):
        return f"is {_OTHER_KINDS.get(kind, f'of the ELF type {kind}')}, and no program"
    (start,) = struct.unpack_from(f"{order}{'Q' if is_64 else 'I'}", content, 32 if is_64 else 28)
    each, count = struct.unpack_from(f"{order}HH", content, 54 if is_64 else 42)
    if each != entry or count == 0:
        return "is broken: it has no program headers (elf(5))"
    if (end := start + each * count) > size:
        return f"is cut off: it has {size} bytes, and its program headers end at {end}"
    return None


def read_interpreter(content: bytes) -> bytes | None:
    """Return the interpreter that a script asks for (execve(2)); None if it asks for none.

    Example:
        >>> read_interpreter(b"#! /usr/bin/env python3")
        b'/usr/bin/env'
    """
    if not content.startswith(b"#!"):
        return None
    words = content[2:_LINE_MAX].split(b"\n")[0].replace(b"\t", b" ").split(b" ")
    return next((word for word in words if word), None)


def why_not_executed(plan: Iterable[Step], program: Execute, error: int) -> str | None:
    """Return why the kernel has refused to execute a program; None if that is not certain.

    Args:
        plan: all steps; those before the program have been done.
        program: the last of them.
        error: what execve(2) said.
    """
    if error == errno.E2BIG:
        return why_too_big((*program.arguments, *program.environment), _stack_limit(plan))
    if error == errno.EAGAIN:
        return "Its user has more processes than the limit nproc (RLIMIT_NPROC) allows"
    with suppress(UnknownError, OSError), Inside(plan) as inside:
        for candidate in program.candidates:
            with suppress(FileNotFoundError, NotADirectoryError):
                found = _look(inside, inside.find(candidate), error)
                if found is not None or error != errno.ENOENT:
                    return found
    return None


def _look(inside: Inside, place: Place, error: int, depth: int = 0) -> str | None:
    """Look at a file that is there, and at what it needs."""
    if place.fd < 0 or depth > _SCRIPTS_MAX:
        return None
    status = os.fstat(place.fd)
    name = repr(place.path)
    if error == errno.EACCES and (said := _why_no_access(place, status)):
        return f"{name} {said}"
    if not stat.S_ISREG(status.st_mode):
        return None
    if error == errno.ETXTBSY:
        writers = ", ".join(map(str, sorted(_writers(status))))
        return f"{name} is open for writing" + (f" by process {writers}" if writers else "")
    content = _read(place.fd)
    interpreter, elf = read_interpreter(content), read_elf(content)
    if interpreter is not None:
        return _look_at_needed(inside, name, "interpreter", interpreter, error, depth)
    if elf is not None and error == errno.ENOENT and elf.loader is not None:
        return _look_at_needed(inside, name, "loader", elf.loader, error, depth)
    if error != errno.ENOEXEC:
        return None
    said = why_no_format(content, status.st_size, os.uname().machine)
    return None if said is None else f"{name} {said}"


def _why_no_access(place: Place, status: os.stat_result) -> str | None:
    if stat.S_ISDIR(status.st_mode):
        return "is a directory"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if place.noexec:
        return "lies on a mount from which nothing may be executed (noexec)"
    if not status.st_mode & 0o111:
        return f"is not executable, its mode is {stat.S_IMODE(status.st_mode):o}: chmod +x"
    return None


def _look_at_needed(
    inside: Inside, name: str, what: str, path: bytes, error: int, depth: int
) -> str | None:
    """Look at the interpreter of a script, or the loader of a program."""
    shown = repr(os.fsdecode(path))
    try:
        place = inside.find(path)
    except (FileNotFoundError, NotADirectoryError):
        if error != errno.ENOENT:
            return None
        said = f"{name} is there, but not the {what} that it asks for, {shown}"
        if path.endswith(b"\r"):
            return f"{said}: its lines end with CR LF, as on Windows"
        if what == "loader":
            return f"{said}: bind it and the libraries, or link the program statically"
        return said
    found = _look(inside, place, error, depth + 1)
    return None if found is None else f"Of {name}, the {what}: {found}"


def why_no_format(content: bytes, size: int, own: str) -> str | None:
    """Return why a kernel knows no way to execute a file (ENOEXEC); None if that is not certain.

    Args:
        content: its beginning.
        size: bytes that it has.
        own: machine of the kernel, as uname(2) calls it.
    """
    if not content:
        return "is empty"
    if content[:4] != b"\x7fELF":
        return "is neither an ELF program nor begins with #!, as a script has to: #!/bin/sh"
    elf = read_elf(content)
    machine = own if elf is None or elf.machine is None else elf.machine
    why_not = _ALSO.get((own, machine))
    if machine != own and why_not is None:
        return f"is a program for {machine}, this machine is {own}"
    if (broken := why_broken(content, size)) is not None or why_not is None:
        return broken
    return f"is a program for {machine}, and this kernel runs none of those: {why_not}"


def _read(fd: int) -> bytes:
    file = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _HEADER_MAX)
    finally:
        os.close(file)


def _writers(status: os.stat_result) -> Iterator[int]:
    """Yield the processes that have a file open for writing, of those that may be looked at."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                found = os.stat(f"/proc/{pid}/fd/{fd}")
                same = (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino)
                # the link itself has the modes that it was opened with
                if same and os.lstat(f"/proc/{pid}/fd/{fd}").st_mode & 0o200:
                    yield int(pid)
                    break


def _stack_limit(plan: Iterable[Step]) -> int:
    """Return the soft limit of the program's stack, -1 for none."""
    limit = getrlimit(RLIMIT_STACK)[0]
    for step in plan:
        if isinstance(step, SetRlimit) and step.resource == "stack":
            limit = step.soft
    return limit


def why_too_big(strings: Iterable[bytes], stack: int) -> str | None:
    """Return what is too long for execve(2): one string, or all together.

    Args:
        strings: arguments and environment.
        stack: the soft RLIMIT_STACK in bytes; -1 for none.

    Example:
        >>> why_too_big([b"true"], 8 << 20) is None
        True
    """
    lengths = [len(string) + 1 for string in strings]
    if max(lengths, default=0) > _STRING_MAX:
        return (
            f"One argument or variable has {max(lengths) - 1} bytes, and {_STRING_MAX - 1} is the "
            "most that one may have"
        )
    total = sum(lengths) + 8 * len(lengths)
    # a quarter of the stack, three quarters of 8 MiB at most, 128 KiB at least
    most = max(min(stack // 4 if stack >= 0 else 6 << 20, 6 << 20), 128 * 1024)
    if total > most:
        return (
            f"Arguments and environment take {total} bytes, and {most} is the most: a quarter of "
            "the limit stack (RLIMIT_STACK), and never more than 6 MiB"
        )
    return None
