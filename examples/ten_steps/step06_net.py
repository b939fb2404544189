"""Step 6: a network of its own, in which there is nobody else."""

import sys

from pyns import Container, Namespace, run

INSIDE = """
import socket
print("interfaces:", [name for _, name in socket.if_nameindex()])
with socket.create_server(("127.0.0.1", 8080)) as server:
    with socket.create_connection(server.getsockname()):
        print("127.0.0.1: reached")
try:
    socket.create_connection(("192.0.2.1", 80))
except OSError as error:
    print("192.0.2.1:", error.strerror)
"""

box = Container(namespaces=Namespace.NET)
done = run(box, [sys.executable, "-c", INSIDE], capture_output=True, text=True)
print(done.stdout, done.stderr, sep="", end="")
