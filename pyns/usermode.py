"""A network without privileges: a process outside that does what the program asks for."""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyns import linux
from pyns.netlink import opened_namespace
from pyns.networking import Network, check_name, described
from pyns.scheduling import check_int
from pyns.steps import Keep, WaitForParent

_PROGRAMS = ("pasta", "slirp4netns")
_READY_WITHIN = 8_000  # milliseconds, less than the child waits
_SHELL = "/bin/sh"
# Kills the process when the caller dies, even by SIGKILL, and its end of the pipe is closed.
_WATCH = 'read -r told || kill -KILL "$0"'

Ports = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class UserNetwork(Network):
    """A network that pasta or slirp4netns makes of ordinary sockets of the caller's.

    The program reaches what the caller reaches, but for the host's own 127.0.0.1, and nobody
    reaches it, but through `tcp_ports` and `udp_ports`. The process ends when the end of the
    container is noticed, or the caller dies.

    Args:
        name: of the device inside.
        program: "pasta" or "slirp4netns", which is looked up in PATH; None: the first that is
            there.
        network: of it: the program has address 100, the gateway 2, and a DNS server that asks the
            caller's 3.
        host_loopback: whether the gateway is the host's 127.0.0.1.
        tcp_ports: port on the host's 127.0.0.1 → port inside, by pasta only.
        udp_ports: likewise.
        mtu: of the device, in bytes.

    Raises:
        ValueError: the network is none, or has no address 100; a number is out of range; ports
            for slirp4netns.

    Needs: pasta (the package passt) or slirp4netns, /bin/sh, /dev/net/tun that the caller may open.
    Source: pasta(1), slirp4netns(1).

    Example:
        >>> UserNetwork().addresses
        ('10.0.2.100/24',)
    """

    reaches_all = True

    name: str = "eth0"
    program: str | None = None
    network: str = "10.0.2.0/24"
    host_loopback: bool = False
    tcp_ports: Mapping[int, int] | Ports = ()
    udp_ports: Mapping[int, int] | Ports = ()
    mtu: int = 65520

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if self.program not in (None, *_PROGRAMS):
            raise ValueError(f"program={self.program!r}: there are {', '.join(_PROGRAMS)}")
        network = ipaddress.IPv4Network(self.network)
        if network.num_addresses < 128:
            raise ValueError(f"network={self.network!r} has no address 100: /25 or larger")
        if not isinstance(self.host_loopback, bool):
            raise TypeError(f"host_loopback={self.host_loopback!r} is not a bool")
        for name in ("tcp_ports", "udp_ports"):
            pairs = tuple(dict(getattr(self, name)).items())
            for port in (port for pair in pairs for port in pair):
                check_int(name, port, 1, 65535)
            object.__setattr__(self, name, pairs)
        if self.program == "slirp4netns" and (self.tcp_ports or self.udp_ports):
            raise ValueError("slirp4netns forwards no ports: pasta does")
        check_int("mtu", self.mtu, 68, 65520)

    @property
    def inside(self) -> str:
        """The name of the device inside."""
        return self.name

    @property
    def addresses(self) -> tuple[str, ...]:
        """The program's."""
        return (f"{self._address(100)}/{ipaddress.IPv4Network(self.network).prefixlen}",)

    @property
    def gateway(self) -> str:
        """The address of the router."""
        return self._address(2)

    @property
    def nameserver(self) -> str:
        """The address of the DNS server."""
        return self._address(3)

    @property
    def resolv_conf(self) -> str:
        """The content of an /etc/resolv.conf that names it: a `File` puts it there."""
        return f"nameserver {self.nameserver}\n"

    def _address(self, number: int) -> str:
        return str(ipaddress.IPv4Network(self.network)[number])

    def step(self, pidfd: int, *, own_user: bool, privileged: bool) -> WaitForParent:
        """Return the step that starts it."""
        wanted = _PROGRAMS if self.program is None else (self.program,)
        if self.tcp_ports or self.udp_ports:
            wanted = ("pasta",)
        found = filter(None, map(shutil.which, wanted))
        return StartUserNetwork(pidfd, self, next(found, wanted[0]), own_user, privileged)


class StartUserNetwork(WaitForParent):
    """Has the parent start the process that is the network (pasta(1), slirp4netns(1))."""

    network: UserNetwork
    program: str  # a path, or a name that was not found
    own_user: bool  # whether the network namespace belongs to a user namespace of the child
    privileged: bool

    def describe(self) -> str:
        network = self.network
        inside = described(network.name, network.addresses, [network.gateway])
        return f"have the parent start {self.program} for the network of {inside}"

    def hint(self, error: int) -> str | None:
        if error == errno.ENOENT:
            return "The package passt has pasta, the package slirp4netns the other one"
        return None

    def help_child(self, pid: int, keep: Keep) -> None:
        if not os.path.isabs(self.program):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.program)
        said = linux.memfd_create("pyns-network")
        ready, tell = os.pipe()
        try:
            with opened_namespace(pid) as namespace:
                process = self._start(pid, namespace, tell, said)
            keep(partial(_end, process))
            watch = [_SHELL, "-c", _WATCH, str(process.pid)]
            keep(partial(_dismiss, _popen(watch, stdin=subprocess.PIPE, bufsize=0)))
            os.close(tell)
            tell = -1
            _await(ready, said, os.path.basename(self.program))
        finally:
            for fd in (said, ready, tell):
                if fd >= 0:
                    os.close(fd)

    def _start(self, pid: int, namespace: int, tell: int, said: int) -> subprocess.Popen[bytes]:
        arguments = self.arguments(pid, tell)
        if self._is_pasta:  # it closes all other fds
            return _popen(arguments, stdin=namespace, stdout=tell, stderr=said)
        return _popen(arguments, stdin=namespace, stdout=said, stderr=said, pass_fds=(tell,))

    @property
    def _is_pasta(self) -> bool:
        return os.path.basename(self.program) == "pasta"

    def arguments(self, pid: int, ready_fd: int) -> list[str]:
        """Return the program's, stdin of which is the network namespace.

        An fd, because pasta drops capabilities without which it may not look at the child.

        Args:
            pid: of the child.
            ready_fd: where slirp4netns tells that it is ready; pasta does so on stdout.
        """
        if self._is_pasta:
            return [self.program, *self._pasta_options(pid)]
        network = self.network
        options = [
            *("--configure", "--enable-seccomp", f"--ready-fd={ready_fd}", f"--mtu={network.mtu}"),
            *(f"--cidr={network.network}", "--netns-type=path"),
        ]
        if self.own_user:
            options.append(f"--userns-path=/proc/{pid}/ns/user")
        if self.privileged:
            options.append("--enable-sandbox")  # else it would have to be root inside
        if not network.host_loopback:
            options.append("--disable-host-loopback")
        return [self.program, *options, "/proc/self/fd/0", network.name]

    def _pasta_options(self, pid: int) -> Iterator[str]:
        network = self.network
        address, _, length = network.addresses[0].partition("/")
        yield from ("--foreground", "--quiet", "--ipv4-only", "--config-net")
        yield from ("--netns", "/proc/self/fd/0", "--pid", "/proc/self/fd/1")
        if self.own_user:
            yield from ("--userns", f"/proc/{pid}/ns/user")
        else:
            yield "--netns-only"
        if self.privileged:
            # as nobody it can neither open the user namespace nor enter the network namespace
            yield from ("--runas", "0")
        yield from ("--ns-ifname", network.name, "--mtu", str(network.mtu))
        yield from ("--address", address, "--netmask", length, "--gateway", network.gateway)
        yield from ("--dns-forward", network.nameserver)
        # unless told otherwise, it forwards every port that somebody listens on, both ways
        yield from ("--tcp-ns", "none", "--udp-ns", "none")
        for option, ports in (
            ("--tcp-ports", network.tcp_ports),
            ("--udp-ports", network.udp_ports),
        ):
            for outside, inside in dict(ports).items():
                yield from (option, f"127.0.0.1/{outside}:{inside}")
            if not ports:
                yield from (option, "none")
        if not network.host_loopback:
            yield "--no-map-gw"


def _popen(arguments: list[str], **files: Any) -> subprocess.Popen[bytes]:
    # All signals are blocked here, and would be there: pasta would be full of zombies.
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        # nothing of the caller's: no environment, directory, terminal
        return subprocess.Popen[bytes](arguments, env={}, cwd="/", start_new_session=True, **files)
    finally:
        # all but two of libc's own, which Python warns of
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked & signal.valid_signals())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _dismiss(watch: subprocess.Popen[bytes]) -> None:
    watch.communicate(b"\n")


def _await(ready: int, said: int, name: str) -> None:
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    if not poll.poll(_READY_WITHIN):
        raise TimeoutError(errno.ETIMEDOUT, f"{name} was not ready within {_READY_WITHIN} ms")
    if os.read(ready, 1) == b"":
        lines = os.pread(said, 4096, 0).decode(errors="replace").splitlines()
        lines = [line for line in lines if line and not line.startswith("Failed to send")]
        told = [f"{name} said: {'; '.join(lines)}", why_no_tap()]
        raise OSError(errno.ENETDOWN, ". ".join(filter(None, told)))


def why_no_tap(tun: str = "/dev/net/tun") -> str | None:
    """Return what is wrong with the device that makes other devices; None for nothing.

    Args:
        tun: its path.
    """
    if not os.path.exists(tun):
        return f"There is no {tun}. As root: modprobe tun"
    if not os.access(tun, os.R_OK | os.W_OK, effective_ids=True):
        return f"{tun} is not to be opened by uid {os.geteuid()}. As root: chmod 666 {tun}"
    return None
