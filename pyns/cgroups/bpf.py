"""How a device program gets into a v2 cgroup: bpf(2), for which libc has no function."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable
from typing import Any

from pyns.cgroups import devices
from pyns.errors import CgroupError

# linux/bpf.h: commands, the type of program and of attachment, flags
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH = 5, 8, 9
_PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD, _PROG_QUERY = 13, 15, 16
_PROG_TYPE_CGROUP_DEVICE, _CGROUP_DEVICE = 15, 6
_F_ALLOW_MULTI, _F_REPLACE = 2, 4
_SYSCALL = {"x86_64": 321, "aarch64": 280}
_NAME = b"pyns_devices"
_MOST = 64  # programs on one group, which is the kernel's own limit


def put(fd: int, path: str, rules: tuple[str, ...] | None) -> None:
    """Put the rules into force in a v2 group, instead of those that pyns put there before.

    Programs of others, on this group or above, stay in force too.

    Args:
        fd: of the group's directory.
        path: of the directory, for errors.
        rules: as `allow_rules` returns them; None to lift them.

    Raises:
        CgroupError: the step that the kernel refused (EPERM: without the capabilities).

    Needs: CAP_BPF and CAP_NET_ADMIN, and CAP_SYS_ADMIN to replace or lift, of the host's first
        user namespace.
    """
    calls = _Calls(path, "\n".join(rules or ()))
    old = calls.own_program(fd)
    try:
        if rules is not None:
            new = calls.load(rules)
            try:
                calls.attach(fd, new, old)
            finally:
                os.close(new)
        elif old is not None:
            calls.detach(fd, old)
    finally:
        if old is not None:
            os.close(old)


class _Calls:
    """The commands of bpf(2), which libc does not have, for one group."""

    def __init__(self, path: str, value: str) -> None:
        import ctypes

        self._ctypes = ctypes
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._path = path
        self._value = value

    def load(self, rules: Iterable[str]) -> int:
        code = [instruction.pack() for instruction in devices.program(rules)]
        text, licence = self._buffer(b"".join(code)), self._buffer(b"MIT\0")
        attributes = struct.pack(
            "=IIQQ24x16s",
            _PROG_TYPE_CGROUP_DEVICE,
            len(code),
            self._address(text),
            self._address(licence),
            _NAME,
        )
        return self._call("load a device program for", _PROG_LOAD, attributes)[0]

    def attach(self, fd: int, new: int, old: int | None) -> None:
        # MULTI: the programs of groups above keep being asked, and groups below may have theirs
        flags = _F_ALLOW_MULTI if old is None else _F_ALLOW_MULTI | _F_REPLACE
        attributes = struct.pack("=iiIIi", fd, new, _CGROUP_DEVICE, flags, old or 0)
        self._call("attach a device program to", _PROG_ATTACH, attributes)

    def detach(self, fd: int, old: int) -> None:
        attributes = struct.pack("=iiII", fd, old, _CGROUP_DEVICE, 0)
        self._call("detach the device program of", _PROG_DETACH, attributes)

    def own_program(self, fd: int) -> int | None:
        """Return an fd of the program that pyns attached to this group, if it did."""
        ids = self._buffer(bytes(4 * _MOST))
        attributes = struct.pack("=iIIIQII", fd, _CGROUP_DEVICE, 0, 0, self._address(ids), _MOST, 0)
        answer = self._call("list the device programs of", _PROG_QUERY, attributes)[1]
        count = struct.unpack("=iIIIQII", answer)[5]
        for number in struct.unpack(f"={count}I", ids.raw[: 4 * count]):
            try:
                found, _ = self._call(
                    "open a device program of",
                    _PROG_GET_FD_BY_ID,
                    struct.pack("=III", number, 0, 0),
                )
            except CgroupError as error:
                if error.errno == errno.ENOENT:  # detached meanwhile
                    continue
                raise
            if self._name(found) == _NAME:
                return found
            os.close(found)
        return None

    def _name(self, fd: int) -> bytes:
        info = self._buffer(bytes(80))  # struct bpf_prog_info up to its name, the last 16 bytes
        attributes = struct.pack("=iIQ", fd, 80, self._address(info))
        try:
            self._call("look at a device program of", _OBJ_GET_INFO_BY_FD, attributes)
        except CgroupError:
            os.close(fd)
            raise
        return bytes(info.raw[64:]).rstrip(b"\0")

    def _buffer(self, content: bytes) -> Any:
        return self._ctypes.create_string_buffer(content, len(content))

    def _address(self, buffer: Any) -> int:
        return self._ctypes.addressof(buffer)

    def _call(self, action: str, command: int, attributes: bytes) -> tuple[int, bytes]:
        number = _SYSCALL.get(os.uname().machine)
        buffer = self._buffer(attributes)
        if number is None:
            result, error = -1, errno.ENOSYS
        else:
            syscall = self._libc.syscall
            syscall.restype = self._ctypes.c_long
            arguments = (number, command, self._address(buffer), len(attributes))
            result = syscall(*map(self._ctypes.c_long, arguments))
            error = self._ctypes.get_errno()
        if result < 0:
            raise CgroupError(
                error,
                f"{action} {self._path}",
                controller="devices",
                file=self._path,
                value=self._value,
                hint=_HINTS.get(error),
            )
        return result, buffer.raw


_HINTS = {
    errno.EPERM: "bpf(2) needs CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN of the host's first user "
    "namespace, and that no group above has a program that allows none below it",
    errno.EINVAL: "The kernel needs CONFIG_CGROUP_BPF",
    errno.ENOSYS: "The kernel needs CONFIG_BPF_SYSCALL, and pyns a machine that it knows",
    errno.E2BIG: f"A group has at most {_MOST} programs",
}
