"""What of a configuration of an OCI runtime becomes of a container, and what is left is told."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

from pyns import (
    Bind,
    CgroupFs,
    Container,
    Dev,
    Device,
    Devpts,
    IdMap,
    IoMax,
    Limits,
    Mqueue,
    Namespace,
    Overlay,
    Proc,
    Sysfs,
    Tmpfs,
)
from pyns.mounts import Mount
from pyns.oci import Bundle


def bundle(**config: Any) -> Bundle:
    return Bundle.of({"ociVersion": "1.0.2", **config}, "/bundle")


def mount(destination: str, kind: str, *options: str, source: str = "none") -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": [*options]}


SPECS = {
    "runc": ["runc", "spec"],
    "runc rootless": ["runc", "spec", "--rootless"],
    "crun": ["crun", "spec"],
    "crun rootless": ["crun", "spec", "--rootless"],
}


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Return a configuration that runc or crun has written."""
    command = SPECS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]}: not in PATH")
    subprocess.run(command, cwd=tmp_path, check=True, timeout=20, env=dict(os.environ))
    return request.param, tmp_path


def test_configurations_of_runc_and_crun_are_honoured(spec: tuple[str, Path]) -> None:
    name, directory = spec
    found = Bundle.read(directory)
    assert (found.args, found.terminal) == (("sh",), True)
    # the times of access, the one set of capabilities that all five sets are here
    assert {each.split(":")[0] for each in found.not_honoured} <= {
        "linux.namespaces",  # one of cgroups, if they are mounted
        "mounts[1] (/dev)",
        "process.capabilities.inheritable",
        "process.capabilities.ambient",
    }
    box = found.container
    assert box.root == str(directory / "rootfs")
    assert box.read_only
    assert box.no_new_privileges
    assert box.masked_paths
    assert box.read_only_paths
    assert {"cap_kill", "cap_audit_write"} <= set(box.capabilities or ())
    assert [type(each) for each in box.mounts or ()][:2] == [Proc, Dev]
    assert (Namespace.USER in box.namespaces) == name.endswith("rootless")
    assert dict(box.rlimits or ())["nofile"] == (1024, 1024)
    assert found.options["cwd"] == "/"
    # what nobody may set in a user namespace of his own
    assert ("extra_groups" in found.options) != name.endswith("rootless")


def test_description_can_be_written_down(spec: tuple[str, Path]) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        box = Container.from_oci(spec[1])
    assert [str(each.message) for each in told] == [
        f"not honoured: {sentence}" for sentence in Bundle.read(spec[1]).not_honoured
    ]
    assert Container.from_toml(box.to_toml()) == box


def test_empty_configuration_isolates_nothing() -> None:
    found = bundle()
    assert found.container == Container(namespaces=Namespace(0), mounts=[], env={}, rlimits={})
    assert found.not_honoured == ()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/x"}]}},
         {"namespaces": Namespace.PID, "join": {Namespace.NET: "/run/x"}}),
        ({"linux": {"namespaces": [{"type": "mount"}], "rootfsPropagation": "rslave"},
          "root": {"path": "rootfs"}},
         {"namespaces": Namespace.MOUNT, "propagation": "slave", "root": "/bundle/rootfs"}),
        ({"linux": {"namespaces": [{"type": "uts"}]}, "hostname": "a", "domainname": "b"},
         {"namespaces": Namespace.UTS, "hostname": "a", "domainname": "b"}),
        ({"linux": {"namespaces": [{"type": "user"}],
                    "uidMappings": [{"containerID": 0, "hostID": 5, "size": 2}],
                    "gidMappings": [{"containerID": 0, "hostID": 6, "size": 3}]}},
         {"namespaces": Namespace.USER, "uid_map": [IdMap(0, 5, 2)], "gid_map": [IdMap(0, 6, 3)]}),
        ({"linux": {"namespaces": [{"type": "time"}],
                    "timeOffsets": {"monotonic": {"secs": 5, "nanosecs": 500000000}}}},
         {"namespaces": Namespace.TIME, "time_offsets": {"monotonic": 5.5}}),
        ({"linux": {"namespaces": [{"type": "network"}], "netDevices": {"eth1": {"name": "e"}}}},
         {"namespaces": Namespace.NET, "network": [Device("eth1", name="e")]}),
        ({"process": {"oomScoreAdj": 5, "noNewPrivileges": True, "apparmorProfile": "a",
                      "selinuxLabel": "s", "env": ["A=b=c", "D="]}},
         {"oom_score_adj": 5, "no_new_privileges": True, "apparmor_profile": "a",
          "selinux_label": "s", "env": {"A": "b=c", "D": ""}}),
        ({"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}]}},
         {"rlimits": {"core": (0, "unlimited")}}),
    ],
)  # fmt: skip
def test_fields(config: dict[str, Any], expected: dict[str, Any]) -> None:
    found = bundle(**config)
    base: dict[str, Any] = {"namespaces": Namespace(0), "mounts": [], "env": {}, "rlimits": {}}
    if Namespace.MOUNT not in expected.get("namespaces", Namespace(0)):
        base["mounts"] = []
    assert found.container == Container(**base | expected)
    assert found.not_honoured == ()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (mount("/proc", "proc", "hidepid=2", "subset=pid"), Proc(hidepid=2, subset="pid")),
        (mount("/sys", "sysfs", "nosuid", "ro"), Sysfs()),
        (mount("/sys", "sysfs"), Sysfs(read_only=False)),
        (mount("/x", "tmpfs", "size=65536k", "mode=755", "nr_inodes=9", "noexec", "ro"),
         Tmpfs("/x", size="65536K", mode=0o755, inodes=9, noexec=True, read_only=True)),
        (mount("/q", "mqueue"), Mqueue("/q")),
        (mount("/p", "devpts", "gid=5", "mode=600", "ptmxmode=666", "newinstance"),
         Devpts("/p", mode=0o600, gid=5, ptmxmode=0o666)),
        (mount("/b", "bind", "rbind", "ro", "nosuid", "nodev", "noexec", source="data"),
         Bind("/bundle/data", "/b", read_only=True, nosuid=True, nodev=True, noexec=True)),
        (mount("/b", "none", "bind", "rprivate", source="/data"),
         Bind("/data", "/b", recursive=False)),
        (mount("/o", "overlay", "lowerdir=/a:/b", "upperdir=/u", "workdir=/w"),
         Overlay("/o", lower=["/a", "/b"], upper="/u", work="/w")),
    ],
)  # fmt: skip
def test_mounts(asked: dict[str, Any], expected: Mount) -> None:
    found = bundle(mounts=[asked], linux={"namespaces": [{"type": "mount"}]})
    assert found.container.mounts == (expected,)
    assert found.not_honoured == ()


def test_cgroups_that_are_mounted_are_the_containers_own() -> None:
    asked = [mount("/c", "cgroup2", "ro")]
    own = bundle(mounts=asked, linux={"namespaces": [{"type": "mount"}, {"type": "cgroup"}]})
    assert own.container.mounts == (CgroupFs("/c"),)
    assert own.not_honoured == ()
    added = bundle(mounts=asked, linux={"namespaces": [{"type": "mount"}]})
    assert added.container == own.container
    assert added.not_honoured == (
        "linux.namespaces: 'without cgroup: it is new, for the mount of cgroups'",
    )


def test_what_lies_in_dev_is_that_of_dev() -> None:
    there = [entry.name for entry in os.scandir("/dev") if stat.S_ISCHR(entry.stat().st_mode)]
    others = sorted(set(there) - {"null", "zero", "full", "random", "urandom", "tty", "ptmx"})
    if not others:
        pytest.skip(f"/dev has no other devices than {there}")

    def device(name: str) -> dict[str, Any]:
        number = os.stat(f"/dev/{name}").st_rdev
        return {"path": f"/dev/{name}", "major": os.major(number), "minor": os.minor(number)}

    found = bundle(
        mounts=[
            mount("/dev", "tmpfs", "nosuid", "mode=755", "size=64k"),
            mount("/dev/pts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=1m"),
            mount("/dev/mqueue", "mqueue"),
        ],
        linux={
            "namespaces": [{"type": "mount"}],
            "devices": [device(others[0]), device("null"), device("null") | {"path": "/dev/x"}],
        },
    )
    dev = Dev(extra=[others[0]], mqueue=True, size="64K", shm_size="1M", pts_gid=5)
    assert found.container.mounts == (dev,)
    [sentence] = found.not_honoured
    assert "/dev/x" in sentence


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"memory": {"limit": 100, "swap": 150, "reservation": 50}},
         Limits(memory_max=100, memory_swap_max=50, memory_low=50)),
        ({"memory": {"limit": -1, "swap": -1}}, Limits(memory_max="max", memory_swap_max="max")),
        ({"pids": {"limit": 7}}, Limits(pids_max=7)),
        ({"pids": {"limit": -1}}, Limits(pids_max="max")),
        ({"cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 1000}},
         Limits(cpu_weight=39, cpu_max=0.5, cpu_max_burst=0.01)),
        ({"cpu": {"quota": -1, "cpus": "0-1", "mems": "0"}},
         Limits(cpu_max="max", cpuset_cpus="0-1", cpuset_mems="0")),
        ({"cpu": {"idle": 1}}, Limits(cpu_idle=True)),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 9}]}, Limits(hugetlb_max={"2MB": 9})),
        ({"unified": {"memory.high": "5"}}, Limits(extra={"memory.high": "5"})),
        ({"blockIO": {"weight": 50,
                      "throttleReadBpsDevice": [{"major": 7, "minor": 0, "rate": 600}],
                      "throttleWriteIOPSDevice": [{"major": 7, "minor": 0, "rate": 5}]}},
         Limits(io_weight=50, io_max=[IoMax("7:0", rbps=600, wiops=5)])),
    ],
)  # fmt: skip
def test_limits(resources: dict[str, Any], expected: Limits) -> None:
    found = bundle(linux={"resources": resources})
    assert found.container.limits == expected
    assert found.not_honoured == ()


def test_rules_for_devices_are_those_that_allow_after_all_is_denied() -> None:
    deny = {"allow": False, "access": "rwm"}
    fuse = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    rules = bundle(linux={"resources": {"devices": [deny, fuse]}}).container.limits
    assert rules is not None
    assert {"c 1:3 rwm", "c 10:229 rw"} <= set(rules.devices or ())
    everything = {"allow": True, "access": "rwm"}
    assert bundle(linux={"resources": {"devices": [deny, everything]}}).container.limits is None
    with pytest.raises(ValueError, match="takes away"):
        bundle(linux={"resources": {"devices": [fuse | {"allow": False}]}})


def test_program_and_who_runs_it() -> None:
    found = bundle(
        process={
            "args": ["a", "b"], "cwd": "/x", "terminal": True,
            "consoleSize": {"height": 5, "width": 7},
            "user": {"uid": 1, "gid": 2, "additionalGids": [3], "umask": 63},
        }
    )  # fmt: skip
    assert (found.args, found.terminal) == (("a", "b"), (5, 7))
    assert found.options == {"cwd": "/x", "user": 1, "group": 2, "extra_groups": (3,), "umask": 63}
    assert found.not_honoured == ()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"linux": {"sysctl": {"net.x": "1"}}}, "linux.sysctl.net.x: '1'"),
        ({"linux": {"cgroupsPath": "/x"}}, "linux.cgroupsPath: '/x'"),
        ({"linux": {"namespaces": [{"type": "new"}]}}, "linux.namespaces: {'type': 'new'}"),
        ({"linux": {"resources": {"network": {"classID": 5}}}},
         "linux.resources.network.classID: 5"),
        ({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}}},
         "linux.seccomp: 'SCMP_ACT_ERRNO but for the calls that it names'"),
        ({"linux": {"intelRdt": {"closID": "x"}}}, "linux.intelRdt.closID: 'x'"),
        ({"hooks": {"poststop": [{"path": "/x"}]}}, "hooks.poststop[0].path: '/x'"),
        ({"process": {"scheduler": {"policy": "SCHED_FIFO"}}},
         "process.scheduler.policy: 'SCHED_FIFO'"),
        ({"process": {"capabilities": {"bounding": ["CAP_KILL"], "effective": [],
                                       "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                                       "ambient": ["CAP_KILL"]}}},
         "process.capabilities.effective: 'not that of bounding: []'"),
        ({"mounts": [mount("/x", "nfs")]}, "mounts[0] (/x): \"type 'nfs'\""),
        ({"mounts": [mount("/x", "tmpfs", "huge=always")],
          "linux": {"namespaces": [{"type": "mount"}]}}, "mounts[0] (/x): 'huge=always'"),
        ({"windows": {"layerFolders": ["a"]}}, "windows.layerFolders: ['a']"),
    ],
)  # fmt: skip
def test_what_is_not_done_is_told(config: dict[str, Any], told: str) -> None:
    assert bundle(**config).not_honoured == (told,)


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no ociVersion"):
        Bundle.of({})
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"ociVersion": "1.0", "hostname": "x"}))
    with pytest.raises(ValueError, match=rf"{file}: hostname='x'.*Namespace.UTS"):
        Bundle.read(tmp_path)
    file.write_text("{")
    with pytest.raises(ValueError, match=r"config\.json"):
        Bundle.read(file)
