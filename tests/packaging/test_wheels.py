"""A wheel has what it says it has, for the machines that it says it is for."""

from __future__ import annotations

import json
import os
import platform
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import pyns

MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine of elf(5)
ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB, DT_RPATH, DT_RUNPATH = 1, 5, 15, 29
LIBC = re.compile(r"lib(c|pthread)\.so\.\d+|libc\.musl-\w+\.so\.1|ld-linux-\w+\.so\.1")


class Segment(NamedTuple):
    """A program header of elf(5)."""

    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    size: int


class Elf:
    """A 64-bit little-endian program or library, see elf(5)."""

    def __init__(self, image: bytes) -> None:
        assert image[:6] == b"\x7fELF\x02\x01"
        self.image = image
        self.sort, self.machine = struct.unpack_from("<HH", image, 16)
        [table] = struct.unpack_from("<Q", image, 32)
        size, count = struct.unpack_from("<HH", image, 54)
        header = struct.Struct("<IIQQQQ")
        starts = range(table, table + size * count, size)
        self.segments = [Segment(*header.unpack_from(image, start)) for start in starts]

    def has(self, *kinds: int) -> bool:
        return any(segment.kind in kinds for segment in self.segments)

    def strings(self, *tags: int) -> list[str]:
        """Return those of the dynamic section."""
        [found] = [s for s in self.segments if s.kind == PT_DYNAMIC]
        content = self.image[found.offset : found.offset + found.size]
        entries = list(struct.iter_unpack("<qQ", content))
        [table] = [value for tag, value in entries if tag == DT_STRTAB]
        [at] = [
            s.offset - s.address + table
            for s in self.segments
            if s.kind == PT_LOAD and s.address <= table < s.address + s.size
        ]
        starts = [at + value for tag, value in entries if tag in tags]
        return [self.image[start : self.image.index(b"\0", start)].decode() for start in starts]

    def is_static_for(self, machine: str) -> bool:
        static = self.sort == ET_EXEC and not self.has(PT_INTERP, PT_DYNAMIC)
        return static and self.machine == MACHINES[machine]


class Wheel:
    """A wheel, and what its name says."""

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)
        self.path = path
        _, self.version, self.python, self.abi, self.platform = path.stem.split("-")
        self.machine = next(name for name in MACHINES if self.platform.endswith(name))

    def only(self, pattern: str) -> zipfile.ZipInfo:
        [found] = [i for i in self.archive.infolist() if re.fullmatch(pattern, i.filename)]
        return found


@pytest.fixture
def opened(wheels: list[Path]) -> Iterator[list[Wheel]]:
    found = [Wheel(path) for path in wheels]
    yield found
    for wheel in found:
        wheel.archive.close()


def test_installed_init_is_a_static_program_for_this_machine() -> None:
    init = Path(pyns.__file__).with_name("pyns-init")
    assert Elf(init.read_bytes()).is_static_for(platform.machine())
    assert os.access(init, os.X_OK)


def test_init_of_each_is_a_static_program_for_its_machine(opened: list[Wheel]) -> None:
    for wheel in opened:
        init = wheel.only("pyns/pyns-init")
        assert Elf(wheel.archive.read(init)).is_static_for(wheel.machine), wheel.path
        assert init.external_attr >> 16 & 0o777 == 0o755, wheel.path


def test_shim_of_each_needs_libc_and_nothing_else(opened: list[Wheel]) -> None:
    for wheel in opened:
        shim = Elf(wheel.archive.read(wheel.only(r"pyns/_shim\..*so")))
        assert (shim.sort, shim.machine) == (ET_DYN, MACHINES[wheel.machine])
        assert [name for name in shim.strings(DT_NEEDED) if not LIBC.fullmatch(name)] == []
        assert shim.strings(DT_RPATH, DT_RUNPATH) == [], wheel.path


def test_shim_of_each_is_named_so_that_every_python_of_its_tag_finds_it(
    opened: list[Wheel],
) -> None:
    # with the platform in it, as 3.15 names it, older ones don't find it
    names = {"abi3": r"_shim\.abi3\.so", "abi3.abi3t": r"_shim\.abi3t.*\.so"}
    for wheel in opened:
        exact = rf"_shim\..*{wheel.python.removeprefix('cp')}t?-.*\.so"
        wheel.only(rf"pyns/{names.get(wheel.abi, exact)}")
        assert (wheel.python, wheel.abi) in {
            ("cp311", "abi3"),
            ("cp314", "cp314t"),
            ("cp315", "abi3.abi3t"),
        }


def test_python_files_of_each_are_the_same(opened: list[Wheel]) -> None:
    def python(wheel: Wheel) -> dict[str, int]:
        return {i.filename: i.CRC for i in wheel.archive.infolist() if i.filename.endswith(".py")}

    for wheel in opened:
        assert python(wheel) == python(opened[0])


def test_each_has_its_licence_and_its_bill_of_materials(opened: list[Wheel]) -> None:
    for wheel in opened:
        wheel.only(r"pyns_linux-.*\.dist-info/licenses/LICENSE")
        bill = json.loads(wheel.archive.read(wheel.only(r".*\.dist-info/sboms/pyns.cdx.json")))
        assert bill["metadata"]["component"]["version"] == wheel.version
        assert [part["name"] for part in bill["components"]] == ["cffi"]


def test_each_has_the_package_and_nothing_beside_it(opened: list[Wheel]) -> None:
    for wheel in opened:
        tops = {name.split("/")[0] for name in wheel.archive.namelist()}
        assert tops == {"pyns", f"pyns_linux-{wheel.version}.dist-info"}
        kinds = {Path(name).suffix for name in wheel.archive.namelist() if "-info/" not in name}
        assert kinds == {"", ".py", ".pyi", ".so", ".typed"}
