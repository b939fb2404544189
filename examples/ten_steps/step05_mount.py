"""Step 5: mounts of its own, so that /proc can be a new one, and /tmp as well."""

import os

from pyns import Container, Namespace, Proc, Tmpfs, run

box = Container(
    namespaces=Namespace.PID | Namespace.MOUNT,
    mounts=[Proc(), Tmpfs("/tmp", size="16M")],
)
script = "echo I am PID $$; touch /tmp/only-inside; ls /tmp; exec readlink /proc/self"
done = run(box, ["sh", "-c", script], cwd="/", capture_output=True, text=True)
me, files, proc = done.stdout.splitlines()
print(me)
print("/proc calls me", proc)
print("/tmp has", files)
print("outside it is there:", os.path.exists("/tmp/only-inside"))
