"""How the floor is called: limit.c, which does in bare C what pyns does."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

from pyns import Namespace

BENCH = Path(__file__).parent

Start = Callable[[], None]  # starts a program, waits for its end, and raises if it failed


def enumerators(name: str) -> list[str]:
    """Return those of an enum of limit.h, in order."""
    text = re.sub(r"/\*.*?\*/", "", (BENCH / "limit.h").read_text(), flags=re.DOTALL)
    body = re.search(rf"enum {name} {{(.*?)}}", text, re.DOTALL)
    assert body is not None
    return [word.strip() for word in body[1].split(",") if word.strip()]


KINDS = {name: number for number, name in enumerate(enumerators("mount_kind"))}
STAGES = enumerators("stage")[:-1]


class MountStruct(ctypes.Structure):
    """struct mount of limit.h."""

    _fields_ = (
        ("kind", ctypes.c_uint64),
        ("source", ctypes.c_char_p),
        ("target", ctypes.c_char_p),
    )


class RequestStruct(ctypes.Structure):
    """struct request of limit.h."""

    _fields_ = (
        ("program", ctypes.c_char_p),
        ("arguments", ctypes.c_void_p),
        ("environment", ctypes.c_void_p),
        ("namespaces", ctypes.c_uint64),
        ("root", ctypes.c_char_p),
        ("hostname", ctypes.c_char_p),
        ("uid_map", ctypes.c_char_p),
        ("gid_map", ctypes.c_char_p),
        ("maps_by_parent", ctypes.c_uint64),
        ("tasks", ctypes.c_void_p),
        ("birth", ctypes.c_int64),
        ("mounts", ctypes.c_void_p),
        ("mount_count", ctypes.c_uint64),
        ("times", ctypes.c_void_p),
    )
    kept: tuple[object, ...] = ()  # what it points to


class FloorMount(NamedTuple):
    """What limit.c is to mount: an enumerator of its mount_kind, and where."""

    kind: str
    target: str
    source: str = ""


class Asked(TypedDict, total=False):
    """What a program is started with, beside its arguments."""

    namespaces: Namespace
    root: Path | None
    hostname: str | None
    id_maps: tuple[str, str] | None
    maps_by_parent: bool
    mounts: Sequence[FloorMount]
    tasks: Sequence[int]
    birth: int
    times: ctypes.Array[ctypes.c_uint64] | None


class Floor:
    """limit.c: its buffers are made before the timing, one ctypes call (1 µs) is in it."""

    def __init__(self, library: Path) -> None:
        self._start_and_wait = ctypes.CDLL(str(library)).start_and_wait
        self._start_and_wait.argtypes = (ctypes.POINTER(RequestStruct),)

    def prepare(self, argv: Sequence[str], **asked: Unpack[Asked]) -> Start:
        """Return what starts a program; each start fills `times`, one for each of STAGES."""
        request = self.request(argv, **asked)

        def start() -> None:
            status = self._start_and_wait(request)
            if status < 0:
                raise OSError(-status, os.strerror(-status), "limit.c")
            expect_success(status)

        return start

    @staticmethod
    def request(argv: Sequence[str], **asked: Unpack[Asked]) -> RequestStruct:
        """Return what limit.c is given; it keeps all that it points to."""
        root, hostname = asked.get("root"), asked.get("hostname")
        id_maps, times = asked.get("id_maps"), asked.get("times")
        mounts, tasks = asked.get("mounts", ()), asked.get("tasks", ())
        arguments = _strings([os.fsencode(argument) for argument in argv])
        environment = _strings([key + b"=" + value for key, value in os.environb.items()])
        descriptors = (ctypes.c_int32 * (len(tasks) + 1))(*tasks, -1)
        structs = (MountStruct * len(mounts))(
            *(
                MountStruct(KINDS[m.kind], os.fsencode(m.source), os.fsencode(m.target))
                for m in mounts
            )
        )
        request = RequestStruct(
            program=arguments[0],
            arguments=ctypes.addressof(arguments),
            environment=ctypes.addressof(environment),
            namespaces=asked.get("namespaces", Namespace(0)).value,
            root=None if root is None else os.fsencode(root),
            hostname=None if hostname is None else hostname.encode(),
            uid_map=None if id_maps is None else id_maps[0].encode(),
            gid_map=None if id_maps is None else id_maps[1].encode(),
            maps_by_parent=asked.get("maps_by_parent", False),
            tasks=ctypes.addressof(descriptors) if tasks else None,
            birth=asked.get("birth", -1),
            mounts=ctypes.addressof(structs),
            mount_count=len(mounts),
            times=None if times is None else ctypes.addressof(times),
        )
        request.kept = (arguments, environment, descriptors, structs, times)
        return request


def _strings(strings: Sequence[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(strings) + 1))(*strings, None)


def expect_success(status: int) -> None:
    """Raise RuntimeError for a program that did not end with 0: nothing was measured then."""
    if status != 0:
        raise RuntimeError(f"the program failed: status {status}")


def compile_c(output: Path, sources: Sequence[str], *options: str) -> Path:
    """Compile C of this directory; FileNotFoundError without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler (cc) in PATH")
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{BENCH.parent / 'csrc'}"]
    paths = [str(BENCH / source) for source in sources]
    subprocess.run([compiler, *flags, *options, "-o", str(output), *paths], check=True)
    return output
