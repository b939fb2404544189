"""Waiting for what happens to a cgroup, with one fd that any event loop can wait for too.

Three things of the kernel's stand behind it:

- inotify tells of each change of the files memory.events, pids.events, cgroup.events and of the
  pressure files, and in the directory above of the removal. Files of v1 do not tell.
- v1 writes into an eventfd when the OOM killer is about to choose, and tells nothing once it has
  killed: for a while after that, a timer has the count read again.
- A pressure trigger is an fd, whose event is gone once somebody polled it. In an epoll fd, it
  would be gone when an event loop polls that. So it is not in there; inotify tells of it as well.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from pyns.cgroups import notifying
from pyns.cgroups.events import KINDS, Event, Kind, Trigger
from pyns.cgroups.files import NOT_THERE, Directory, is_there
from pyns.cgroups.hierarchy import Hierarchy
from pyns.cgroups.stats import flat_keyed, integer
from pyns.errors import CgroupError

if TYPE_CHECKING:
    import asyncio

# seconds; before it kills, the OOM killer may print its report on a slow console
_FIRST_LOOK, _LAST_LOOK = 0.001, 4.0


class _Source(NamedTuple):
    """A file of v2 that counts events, and the names of its lines."""

    controller: str  # "" for none
    file: str
    lines: Mapping[Kind, str]


_V2 = (
    _Source(
        "memory",
        "memory.events",
        {
            "memory_low": "low",
            "memory_high": "high",
            "memory_max": "max",
            "oom": "oom",
            "oom_kill": "oom_kill",
        },
    ),
    _Source("pids", "pids.events", {"pids_max": "max"}),
    _Source("", "cgroup.events", {"populated": "populated", "frozen": "frozen"}),
)
# the end of a state is an event as well
_ENDS: Mapping[Kind, Kind] = {"populated": "empty", "frozen": "thawed"}


def _with_ends(kinds: Iterable[Kind]) -> set[Kind]:
    return {each for kind in kinds for each in (kind, _ENDS.get(kind, kind))}


def _counts(text: str, lines: Mapping[Kind, str]) -> dict[Kind, int]:
    said = flat_keyed(text)
    counts: dict[Kind, int] = {}
    for kind, line in lines.items():
        count = integer(said.get(line))
        if count is not None:
            counts[kind] = count
            if kind in _ENDS:
                counts[_ENDS[kind]] = 1 - count
    return counts


class Watch:
    """What happens to one cgroup from now on, as `Cgroup.watch` returns it.

    A context manager, closed at the end of the `with`; an iterator, also for `async for`, that ends
    when the group is removed or the watch is closed. Threads may share it: each event goes to one
    of them.
    """

    def __init__(
        self,
        directories: Mapping[Hierarchy, Directory],
        kinds: Collection[Kind] | None,
        pressure: Collection[Trigger],
    ) -> None:
        self._path = next((directory.path for directory in directories.values()), "")
        self._wanted = frozenset(KINDS if kinds is None else kinds)
        self._lock = threading.RLock()
        self._fds = ExitStack()
        self._is_closed = self._is_removed = False
        self._waiting = 0
        self._is_shown = False
        self._pending: deque[Event] = deque()
        self._files: list[tuple[int, Mapping[Kind, str]]] = []
        self._last: dict[Kind, int] = {}
        self._triggers: dict[int, Trigger] = {}
        self._fired: set[int] = set()
        self._oom = self._oom_control = self._timer = -1
        self._delay = _LAST_LOOK
        try:
            self._open(directories, pressure, is_asked=kinds is not None)
            if kinds is not None:
                self._check_offered(directories)
            self.note()  # from where the counting starts
            if self._is_removed:
                raise CgroupError(errno.ENODEV, "watch a cgroup that is removed", file=self._path)
        except BaseException as failure:
            self._fds.close()
            if not isinstance(failure, OSError) or isinstance(failure, CgroupError):
                raise
            raise self._refused("watch", failure) from None  # no fd or no memory left for it

    # What it is made of

    def _open(
        self,
        directories: Mapping[Hierarchy, Directory],
        pressure: Iterable[Trigger],
        *,
        is_asked: bool,
    ) -> None:
        if not directories:
            raise CgroupError(errno.ENODEV, "watch a cgroup that is removed")
        self._epoll = select.epoll()
        self._fds.callback(self._epoll.close)
        self._wake = self._poll(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        for hierarchy, directory in directories.items():
            if hierarchy.version == 2:
                for source in _V2:
                    self._open_source(directory, source)
            elif "memory" in hierarchy.controllers and self._wanted & {"oom", "oom_kill"}:
                try:
                    self._open_v1(directory)
                except CgroupError as error:
                    # it takes the right to write
                    if is_asked or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                        raise
        newest = max(directories, key=lambda hierarchy: hierarchy.version)
        directory = directories[newest]
        for trigger in pressure:
            self._open_trigger(trigger, directory if newest.version == 2 else None)
        self._group = self._own(os.dup(directory.fd))
        try:
            self._inotify = self._poll(notifying.open_inotify())
        except OSError as error:
            hint = "Raise fs.inotify.max_user_instances" if error.errno == errno.EMFILE else None
            raise self._refused("watch", error, hint) from None
        if newest.version == 2:
            notifying.add_watch(self._inotify, self._group, ".", notifying.IN_MODIFY)
        notifying.add_watch(self._inotify, self._group, "..", notifying.IN_DELETE)

    def _open_source(self, directory: Directory, source: _Source) -> None:
        if self._wanted.isdisjoint(_with_ends(source.lines)):
            return
        try:
            fd = self._own(directory.open(source.file, os.O_RDONLY))
        except CgroupError as error:
            if error.errno not in NOT_THERE:  # the group does not have the controller
                raise
        else:
            self._files.append((fd, source.lines))

    def _open_v1(self, directory: Directory) -> None:
        fd = self._own(directory.open("memory.oom_control", os.O_RDONLY))
        oom = self._poll(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        directory.write("cgroup.event_control", f"{oom} {fd}", "memory")
        self._oom, self._oom_control = oom, fd
        self._timer = self._poll(notifying.open_timer())
        self._files.append((fd, {"oom_kill": "oom_kill"}))

    def _open_trigger(self, trigger: Trigger, directory: Directory | None) -> None:
        file = f"{trigger.resource}.pressure"
        if directory is None:
            raise CgroupError(
                errno.EOPNOTSUPP,
                f"watch {file}",
                hint="The group is in no v2 hierarchy, and v1 has no pressure",
            )
        path, value = f"{directory.path}/{file}", trigger.text()
        try:
            fd = self._own(directory.open(file, os.O_RDWR | os.O_NONBLOCK))
            os.write(fd, value.encode())
        except OSError as error:
            hint = {
                errno.ENOENT: "The kernel was started without PSI (psi=1), or the group is gone",
                errno.EINVAL: "Without CAP_SYS_RESOURCE, window_seconds has to be a multiple of 2",
                errno.EOPNOTSUPP: "The kernel was started without PSI (psi=1)",
            }.get(error.errno or 0)
            raise CgroupError(
                error.errno or 0, f"write {value!r} to {path}", file=path, value=value, hint=hint
            ) from None
        self._triggers[fd] = trigger

    def _check_offered(self, directories: Mapping[Hierarchy, Directory]) -> None:
        offered: set[Kind] = {"removed"}
        if self._oom >= 0:
            offered.add("oom")
        for _, lines in self._files:
            offered |= _with_ends(lines)
        for kind in KINDS:
            if kind in self._wanted - offered:
                path = next(iter(directories.values())).path
                raise CgroupError(
                    errno.EOPNOTSUPP,
                    f"watch for {kind} in the cgroup {path}",
                    file=path,
                    hint="Of these, v1 hierarchies have oom, oom_kill and removed; on v2, those of "
                    "memory_..., oom... and pids_... need the controller in the group",
                )

    def _refused(self, what: str, error: OSError, hint: str | None = None) -> CgroupError:
        action = f"{what} the cgroup {self._path}"
        return CgroupError(error.errno or 0, action, file=self._path, hint=hint)

    def _own(self, fd: int) -> int:
        self._fds.callback(os.close, fd)
        return fd

    def _poll(self, fd: int) -> int:
        self._own(fd)
        self._epoll.register(fd, select.EPOLLIN)
        return fd

    # What it is for

    def fileno(self) -> int:
        """Return the fd for event loops: it is readable when `wait(0)` may have something.

        Once the watch has ended it stays readable, as a pipe does at its end.

        Raises:
            ValueError: the watch is closed.
        """
        return self._epoll.fileno()

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more: the group is removed, or the watch closed."""
        return self._is_closed or (self._is_removed and not self._pending)

    def wait(self, timeout: float | None = None) -> Event | None:
        """Wait for the next event.

        Args:
            timeout: seconds; 0 to look only, None for ever.

        Returns:
            The event; None if there was none in that time, or none will come any more (`ended`).

        Raises:
            CgroupError: the kernel's counts can't be read.

        Needs: nothing more.
        Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst of the kernel.

        Example:
            >>> from pyns.cgroups import Cgroup
            >>> with Cgroup.create() as group, group.watch() as watch:
            ...     watch.wait(timeout=0)
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            event = self._take()
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if event or self.ended or left == 0:
                return event
            with self._kept_open() as is_open:
                if is_open:
                    self._sleep(left)

    def note(self) -> None:
        """Note what has happened until now, as the last act before the group is removed."""
        with self._lock:
            if self._is_closed or self._is_removed:
                return
            # before the counts are read, so that no change comes between the two
            notifying.drain(self._inotify)
            counts = self._read_files()
            self._is_removed = not is_there(self._group, self._path)
            if self._is_removed and "populated" in self._last:
                counts |= {"populated": 0, "empty": 1}
            if self._oom >= 0:
                counts["oom"] = self._last.get("oom", 0) + self._ooms()
            for kind in KINDS:
                if kind in counts:
                    risen = counts[kind] - self._last.get(kind, counts[kind])
                    self._last[kind] = counts[kind]
                    if risen > 0 and kind in self._wanted:
                        self._pending.append(Event(kind=kind, count=risen))
            self._add_pressure()
            if self._is_removed and "removed" in self._wanted:
                self._pending.append(Event(kind="removed"))
            self._show()

    def close(self) -> None:
        """End the watch, harmlessly when that is done; who waits elsewhere gets None."""
        with self._lock:
            self._is_closed = True
            self._pending.clear()
            if self._waiting:
                self._show()
            else:
                self._fds.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._fds.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self.wait()
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        import asyncio  # here: only those who have a loop need it

        loop = asyncio.get_running_loop()
        while (event := self.wait(0)) is None:
            with self._kept_open() as is_open:
                if not is_open or self.ended:
                    raise StopAsyncIteration
                readable = loop.create_future()
                loop.add_reader(self.fileno(), _resolve, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(self.fileno())
        return event

    # How

    def _take(self) -> Event | None:
        with self._lock:
            if self._is_closed:
                return None
            self.note()
            event = self._pending.popleft() if self._pending else None
            self._show()
            return event

    def _read_files(self) -> dict[Kind, int]:
        counts: dict[Kind, int] = {}
        for fd, lines in self._files:
            try:
                text = os.pread(fd, 4096, 0).decode(errors="replace")
            except OSError as error:
                if error.errno not in NOT_THERE:
                    raise self._refused("read the events of", error) from None
            else:
                counts |= _counts(text, lines)
        return counts

    def _ooms(self) -> int:
        """Return how often v1 told of one; have the count of kills read again for a while."""
        ooms = 0
        with suppress(BlockingIOError):
            ooms = os.eventfd_read(self._oom)
        try:
            os.pread(self._oom_control, 1, 0)
        except OSError:  # the kernel writes into it when it removes the group, too
            ooms = max(0, ooms - 1)
        is_time = notifying.drain(self._timer)
        if ooms or (is_time and self._delay < _LAST_LOOK):
            self._delay = _FIRST_LOOK if ooms else self._delay * 2
            notifying.set_timer(self._timer, self._delay)
        return ooms

    def _add_pressure(self) -> None:
        self._poll_triggers(select.poll(), 0)
        while self._fired:
            trigger = self._triggers[self._fired.pop()]
            self._pending.append(Event(kind="pressure", trigger=trigger))

    def _sleep(self, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(self._epoll, select.POLLIN)
        self._poll_triggers(poll, None if seconds is None else seconds * 1000)

    def _poll_triggers(self, poll: select.poll, milliseconds: float | None) -> None:
        for fd in self._triggers:
            poll.register(fd, select.POLLPRI)
        for fd, events in poll.poll(milliseconds):
            if fd in self._triggers:
                # an error is what is left of the trigger when the group is removed
                if events & select.POLLERR:
                    self._triggers.pop(fd, None)
                else:
                    self._fired.add(fd)

    def _show(self) -> None:
        """Have the fd readable as long as there is something to take, or an end to see."""
        something = bool(self._pending) or self._is_closed or self._is_removed
        if something != self._is_shown:
            self._is_shown = something
            if something:
                os.eventfd_write(self._wake, 1)
            else:
                os.eventfd_read(self._wake)

    @contextmanager
    def _kept_open(self) -> Iterator[bool]:
        """Have another thread's `close` leave the fds to this one; False if that was before."""
        with self._lock:
            is_open = not self._is_closed
            self._waiting += is_open
        try:
            yield is_open
        finally:
            with self._lock:
                self._waiting -= is_open
                if self._is_closed and not self._waiting:
                    self._fds.close()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
