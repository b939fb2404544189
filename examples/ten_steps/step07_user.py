"""Step 7: ids of its own. Who is root in there is nobody special outside."""

import os
import tempfile

from pyns import Container, IdMap, Namespace, run

box = Container(
    namespaces=Namespace.USER | Namespace.UTS,
    uid_map=IdMap.current("uid", 0),  # 0 inside is the caller outside
    gid_map=IdMap.current("gid", 0),
)
with tempfile.TemporaryDirectory() as directory:
    script = "id -u; hostname mine; uname -n; touch file"
    done = run(box, ["sh", "-c", script], cwd=directory, capture_output=True, text=True)
    uid, hostname = done.stdout.splitlines()
    print("inside I am uid", uid)
    print("and may change the hostname to", hostname)
    print("my file belongs to the caller:", os.stat(f"{directory}/file").st_uid == os.getuid())
