"""Step 4: pids of its own. The program is PID 1, and /proc does not know it yet."""

from pyns import Container, Namespace, clone_into

box = Container(namespaces=Namespace.PID)
script = "echo I am PID $$; exec readlink /proc/self"  # exec: the same process goes on
with clone_into(box, ["sh", "-c", script], stdout=-1, text=True) as process:
    me, proc = process.communicate()[0].splitlines()
print(me)
print("/proc calls me", proc)
print("the caller calls it by the same number:", int(proc) == process.pid)
