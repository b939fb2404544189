"""How the caller gets a group of its own from systemd, by one call over D-Bus."""

from __future__ import annotations

import errno
import os
import time
from functools import partial
from typing import Any

from pyns.cgroups import delegation
from pyns.cgroups.cgroup import Cgroup
from pyns.cgroups.placing import private_name
from pyns.errors import CgroupError

_SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_NAME, _PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
# org.freedesktop.systemd1(5), D-Bus specification
_ERRNOS = {
    "org.freedesktop.systemd1.UnitExists": errno.EEXIST,
    "org.freedesktop.DBus.Error.AccessDenied": errno.EACCES,
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": errno.EACCES,
    "org.freedesktop.DBus.Error.InvalidArgs": errno.EINVAL,
}
_NOT_THERE = ("org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.Spawn.")


def delegated_scope(
    name: str | None = None,
    *,
    description: str = "groups made by pyns",
    leaf: str = "main",
    timeout: float = 30.0,
) -> Cgroup:
    """Have systemd move the caller into a new group that is delegated to it.

    Once is enough: below this group, groups are made by mkdir, and systemd is not asked again. It
    removes the group when the last process in it and below has ended.

    Args:
        name: of the unit, a scope; None for one that says whose it is.
        description: what `systemctl status` shows.
        leaf: name of the child that the caller is in afterwards, because v2 hands controllers down
            only from a group without processes. Threads come along, children do not.
        timeout: seconds to wait for systemd.

    Returns:
        The group above the leaf: a `parent=` for `Cgroup.create`, and the default one for an
        ordinary user. It is systemd's to remove; `close` lets go of it.

    Raises:
        ImportError: the extra `systemd` is not installed.
        ValueError: the name or the leaf is none.
        CgroupError: systemd does not run (EOPNOTSUPP), can't be reached (ENOENT, EHOSTUNREACH,
            ETIMEDOUT), has a unit of that name (EEXIST), or refuses (EACCES, ECANCELED).

    Needs: systemd of the user (a login; root: of the system), and `pip install
        'pyns-linux[systemd]'`. Controllers that systemd delegates: on most hosts cpu, memory, pids.
    Source: org.freedesktop.systemd1(5), systemd.scope(5),
        https://systemd.io/CGROUP_DELEGATION.

    Example:
        >>> scope = delegated_scope()  # doctest: +SKIP
        >>> with Cgroup.create(parent=scope, limits=Limits(pids_max=9)):  # doctest: +SKIP
        ...     pass
    """
    try:
        import jeepney.io.blocking  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "delegated_scope needs the package jeepney: pip install 'pyns-linux[systemd]'"
        ) from error
    unit = f"{name or f'pyns-{private_name()}'}".removesuffix(".scope") + ".scope"
    if not all(c.isascii() and (c.isalnum() or c in ":_.\\-") for c in unit) or len(unit) > 255:
        raise ValueError(f"name={name!r} is no unit's: letters, digits and :_.\\-, at most 249")
    if not os.path.isdir(delegation.SYSTEMD):
        raise CgroupError(
            errno.EOPNOTSUPP,
            f"get the scope {unit} from systemd",
            hint=f"It does not run here: there is no {delegation.SYSTEMD}",
        )
    start_scope(unit, description, bus_address(), timeout)
    return Cgroup.own(leaf=leaf)


def bus_address() -> str:
    """Return the address of the bus that the caller's systemd is on."""
    if os.geteuid() == 0:
        return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or _SYSTEM_BUS
    session = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    return session or f"unix:path={delegation.runtime_directory()}/bus"


def start_scope(unit: str, description: str, address: str, timeout: float) -> None:
    """Start a scope with the caller in it, and wait until it is."""
    import jeepney
    from jeepney.wrappers import unwrap_msg

    deadline = time.monotonic() + timeout
    action = f"get the scope {unit} from systemd on {address}"
    manager = jeepney.DBusAddress(_PATH, _NAME, _MANAGER)
    signal = partial(
        jeepney.MatchRule, type="signal", interface=_MANAGER, member="JobRemoved", path=_PATH
    )
    # the bus knows who has that name; in the messages the sender is a number
    asked = jeepney.message_bus.AddMatch(signal(sender=_NAME))
    removed = signal()
    properties = [
        ("Description", ("s", description)),
        ("Delegate", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("PIDs", ("au", [0])),  # whoever asks; in a PID namespace it does not know its own
    ]
    start = jeepney.new_method_call(
        manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "fail", properties, [])
    )
    # not NO_AUTO_START: a user's bus starts with its first client, and systemd joins it after that
    try:
        with _connect(address, deadline) as bus, bus.filter(removed, bufsize=None) as jobs:
            # before the call: the job may be done before its answer is here
            unwrap_msg(bus.send_and_get_reply(asked))
            [job] = unwrap_msg(bus.send_and_get_reply(start))
            result = None
            while result is None:
                _, path, _, said = bus.recv_until_filtered(jobs).body
                result = said if path == job else None
    except jeepney.DBusErrorResponse as error:
        raise _refusal(action, error.name, str((error.data or [""])[0])) from None
    except TimeoutError:
        raise CgroupError(errno.ETIMEDOUT, action) from None
    except (OSError, RuntimeError, ValueError) as error:  # the latter two of an odd address
        raise _unreachable(action, address, error) from None
    if result != "done":
        system = "" if os.geteuid() == 0 else "--user "
        raise CgroupError(
            errno.ECANCELED,
            action,
            hint=f"The job ended with {result!r}; journalctl {system}-u {unit} says why",
        )


def _connect(address: str, deadline: float) -> Any:
    from jeepney.bus import get_bus
    from jeepney.io.blocking import DBusConnection, prep_socket

    class Connection(DBusConnection):  # type: ignore[misc]
        """One whose every wait ends at the deadline, also that for the bus's first answer."""

        def __init__(self, socket: Any) -> None:
            self.selector = None
            try:
                super().__init__(socket)
            except BaseException:
                if self.selector is not None:
                    self.selector.close()
                socket.close()
                raise

        def receive(self, *, timeout: float | None = None) -> Any:
            del timeout
            return super().receive(timeout=max(deadline - time.monotonic(), 0))

    return Connection(
        prep_socket(get_bus(address), timeout=max(deadline - time.monotonic(), 0.001))
    )


def _refusal(action: str, name: str, said: str) -> CgroupError:
    if name.startswith(_NOT_THERE):
        hint = f"Its bus says: {said} ({name}). So systemd is not on that bus, but on another"
        return CgroupError(errno.EHOSTUNREACH, action, hint=hint)
    error = _ERRNOS.get(name, errno.ECANCELED)
    return CgroupError(error, action, hint=f"It says: {said} ({name})")


def _unreachable(action: str, address: str, error: Exception) -> CgroupError:
    if not isinstance(error, OSError):
        return CgroupError(errno.EHOSTUNREACH, action, file=address, hint=str(error))
    number, hint = error.errno or 0, None
    if number in (errno.ENOENT, errno.ECONNREFUSED):
        user = os.geteuid()
        hint = "No bus is there. " + (
            "Install and start dbus"
            if user == 0
            else f"As root: loginctl enable-linger {user} (and dbus-user-session is to be "
            f"installed). Then set XDG_RUNTIME_DIR=/run/user/{user}"
        )
    return CgroupError(number, action, file=address, hint=hint)
