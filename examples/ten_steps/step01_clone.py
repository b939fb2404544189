"""Step 1: a program is started, and nothing is isolated."""

import os

from pyns import Container, Namespace, run

box = Container(namespaces=Namespace(0))
print(box.plan(["sh"]), flush=True)

done = run(box, ["sh", "-c", "echo I am $$, the child of $PPID"], capture_output=True, text=True)
print(done.stdout, end="")
print("I am", os.getpid())
