"""Answers the system calls that a seccomp filter hands over (seccomp_unotify(2)): a program.

Every call goes on as it would, but some of each run, which fail with an errno; and all are noted.
It is a process of its own: the thread that waits for an answer may hold the interpreter's lock.

It talks to its owner by a socket, its stdin: first it gets the filter's fd and, as JSON, where
things are; then for each run which calls are to fail (each [[role, number of the step, address of
the instruction, file without numbers, which time], errno]), to be answered by "ready"; and "end",
answered by what was called.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
from typing import Any

RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND of <linux/seccomp.h>
NOTICE = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif: id, pid, flags, seccomp_data
ANSWER = struct.Struct("=QqiI")  # struct seccomp_notif_resp: id, val, error, flags
CONTINUE = 1


class Supervisor:
    """What is known of the filtered process, and of the present run."""

    def __init__(self, listener: int, known: dict[str, Any]) -> None:
        self.listener = listener
        self.process, self.thread = known["process"], known["thread"]
        self.shim, self.init, self.report = known["shim"], known["init"], known["report"]
        self.files = known["files"]  # number → which arguments say what file a call is about
        # opened while it may be: a child that changes its user makes it root's
        self.memory = os.open(f"/proc/{self.process}/mem", os.O_RDONLY | os.O_CLOEXEC)
        self.notice = bytearray(NOTICE.size)
        self.begin([])

    def begin(self, faults: list[Any]) -> None:
        self.faults = faults
        self.failed = 0
        self.opened = ""
        self.calls: list[list[Any]] = []
        self.roles: dict[str, str] = {}
        self.times: dict[tuple[str, int, int, str], int] = {}

    def answer(self) -> None:
        self.notice[:] = bytes(NOTICE.size)
        try:
            fcntl.ioctl(self.listener, RECEIVE, self.notice)
        except FileNotFoundError:  # the process was killed meanwhile
            return
        notice, pid, _, number, _, pointer, *arguments = NOTICE.unpack(self.notice)
        role = self.role_of(pid, pointer)
        reply = ANSWER.pack(notice, 0, 0, CONTINUE)
        if role != "program":
            place = role, self.index() if role.startswith("child") else -1, pointer
            path = self.path_of(pid, number, arguments) if role in ("caller", "helper") else ""
            # numbers in it are another one's each time: pids, groups
            alike = *place, re.sub(r"\d+", "", path)
            times = self.times[alike] = self.times.get(alike, 0) + 1
            self.calls.append([*place, times, path, [number, *arguments[:4]]])
            for call, error in self.faults:
                if call == [*alike, times]:
                    reply = ANSWER.pack(notice, 0, -error, 0)
                    self.failed += 1
        try:
            fcntl.ioctl(self.listener, SEND, bytearray(reply))
        except FileNotFoundError:
            return

    def role_of(self, pid: int, pointer: int) -> str:
        if pid == self.thread:
            return "caller"
        if os.path.isdir(f"/proc/{self.process}/task/{pid}"):
            return "helper"
        if self.shim[0] <= pointer < self.shim[1]:
            return self.nth("child", pid)
        if self.init[0] <= pointer < self.init[1]:
            return self.nth("init", pid)
        return "program"

    def path_of(self, pid: int, number: int, arguments: list[int]) -> str:
        """Return which file a call is about, as the arguments say it; "" for none."""
        kind = self.files.get(str(number))  # JSON has no other keys
        if kind is None:
            return ""
        path = "" if kind == "fd" else self.string_at(arguments[0 if kind == "path" else 1])
        if kind != "path" and not path.startswith("/"):
            try:
                directory = os.readlink(f"/proc/{pid}/fd/{arguments[0]}")
                path = os.path.join(directory, path) if path else directory
            except PermissionError:  # not dumpable for a moment: the one that was opened last
                path = path or self.opened
            except OSError:  # AT_FDCWD, or none that is open
                return path
        if kind == "fd, path":
            self.opened = path
        return path

    def string_at(self, address: int) -> str:
        text = b""
        while b"\0" not in text and (part := os.pread(self.memory, 64, address + len(text))):
            text += part
        return os.fsdecode(text.partition(b"\0")[0])

    def nth(self, kind: str, pid: int) -> str:
        """The second of a kind is another role."""
        key = f"{kind} {pid}"
        if key not in self.roles:
            self.roles[key] = f"{kind} {sum(k.startswith(kind) for k in self.roles) + 1}"
        return self.roles[key]

    def index(self) -> int:
        """Which step the child is at: report.index."""
        report = int.from_bytes(os.pread(self.memory, 8, self.report), "little")
        return int.from_bytes(os.pread(self.memory, 4, report + 8), "little") if report else -1


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    owner = socket.socket(fileno=0)
    message, (listener,), _, _ = socket.recv_fds(owner, 65536, 1)
    supervisor = Supervisor(listener, json.loads(message))
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(owner, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if ready.get(listener, 0) & select.POLLIN:
            supervisor.answer()
        elif listener in ready:
            poll.unregister(listener)  # the last thread that has the filter is gone
        elif owner.fileno() in ready:
            request = json.loads(owner.recv(65536) or "false")
            if request is False:
                return
            if request == "end":
                answer = {"calls": supervisor.calls, "failed": supervisor.failed}
                owner.sendall(json.dumps(answer).encode() + b"\n")
            else:
                supervisor.begin(request)
                owner.sendall(b'"ready"\n')


if __name__ == "__main__":
    main()
