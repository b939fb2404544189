"""How an fd that the child has opened comes to the caller: through a socket."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socket import socket

_FD = struct.Struct("i")


def receive_fd(ours: socket) -> int:
    """Return the fd that was sent.

    Raises:
        BlockingIOError: none was.
        OSError: there is no room for it here (EMFILE).
    """
    import socket  # not needed otherwise: a millisecond of each start of the interpreter

    # not socket.recv_fds, which passes no flags on
    flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
    _, messages, _, _ = ours.recvmsg(1, socket.CMSG_LEN(_FD.size), flags)
    if not messages:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return int(_FD.unpack(messages[0][2])[0])
