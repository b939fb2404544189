"""Step 3: shared memory of its own."""

from pyns import Container, Namespace, run

COUNT = "ipcs --shmems --summary | grep segments"

box = Container(namespaces=Namespace.IPC)
for script in (f"ipcmk --shmem 4096; {COUNT}", COUNT):
    done = run(box, ["sh", "-c", script], capture_output=True, text=True)
    print(done.stdout, end="")
