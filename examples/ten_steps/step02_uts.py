"""Step 2: a hostname of its own."""

import os

from pyns import Container, Namespace, run

before = os.uname().nodename
box = Container(namespaces=Namespace.UTS, hostname="container")
done = run(box, ["uname", "-n"], capture_output=True, text=True)
print("inside: ", done.stdout, end="")
print("outside:", "as before" if os.uname().nodename == before else "changed")
