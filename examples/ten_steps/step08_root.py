"""Step 8: a root of its own, with the host's programs in it and nothing else."""

import os

from pyns import Bind, Container, Dev, Proc, Symlink, Tmpfs, run

# where /bin is a link to usr/bin, as on most hosts today
links = [
    Symlink(f"/{name}", os.readlink(f"/{name}"))
    for name in ("bin", "lib", "lib64")
    if os.path.islink(f"/{name}")
]
box = Container(
    root=Tmpfs("/", size="1M"),
    read_only=True,
    mounts=[Bind("/usr", read_only=True), *links, Proc(), Dev(), Tmpfs("/tmp", size="16M")],
)
script = "ls /; pwd; touch /usr/mine; touch /mine; touch /tmp/mine && echo /tmp is mine"
done = run(box, ["sh", "-c", script], cwd="/", stdout=-1, stderr=-2, text=True)
print(done.stdout, end="")
