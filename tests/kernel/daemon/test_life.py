"""The life of leases on the real kernel: what is there while they live, and that nothing is when they ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess

import pytest

from nomx.api.lease import LeaseSpec
from nomx.errors import InvalidRequest, NotGranted, NotPermitted, NotSupported
from nomx.linux import cgroupfs, netns
from nomx.testing.real_daemon import Holder, RealDaemon

pytestmark = [pytest.mark.root, pytest.mark.netns]

NOBODY = 65534
MIB = 1 << 20


def lease_groups(number: int) -> set[str]:
    return {f"{root.name}/lease{number}" for root in cgroupfs.hierarchies().roots()}


def test_a_soft_lease_is_there_whole_and_goes_whole(daemon: RealDaemon) -> None:
    holder = daemon.hold(name="one", memory_bytes=64 * MIB)
    assert holder.grant.path == "soft"
    assert daemon.groups() == lease_groups(1)
    assert daemon.has_ports("s0", "s1", "a1")
    with daemon.client() as client:
        (status,) = client.leases()
        assert status.pids == (holder.pid,)
        assert status.memory_limit_bytes == 64 * MIB
        assert 0 < (status.memory_used_bytes or 0) <= 64 * MIB
        assert [unit.unit for unit in client.devices()] == ["host", "soft1"]
        assert client.hello().free["slots"] == client.hello().capacity["slots"] - 1
    holder.end()
    assert daemon.ended(holder.lease) == "its application ended"
    assert daemon.groups() == set()
    assert daemon.has_ports("s0")


def test_a_kernel_lease_has_no_device_and_counts_at_its_sockets(daemon: RealDaemon) -> None:
    program = (
        "import socket\n"
        "one, other = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in 'ab']\n"
        "one.bind(('127.0.0.1', 0))\n"
        "for _ in range(10): other.sendto(b'x', one.getsockname()); one.recv(9)\n"
        "print('done', flush=True)\n"
    )
    holder = daemon.hold(program=program, path="kernel")
    assert holder.say() == "done"
    assert daemon.has_ports("s0")
    with daemon.client() as client:
        status = client.show(holder.lease)
    assert (status.traffic.rx_packets, status.traffic.tx_packets) == (10, 10)
    assert status.traffic.counted_at == "socket"
    assert status.crossings is not None
    assert status.crossings.syscalls >= 20
    assert holder.grant.verdicts[-1].path == "soft"


def test_children_of_a_holder_that_was_killed_die_too(daemon: RealDaemon) -> None:
    program = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    holder = daemon.hold(program=program)
    child = int(holder.say())
    pidfd = os.pidfd_open(child)
    holder.end()
    daemon.ended(holder.lease)
    assert select.select([pidfd], [], [], 0)[0] == [pidfd]
    os.close(pidfd)


def test_release_returns_the_processes_to_where_they_came_from(daemon: RealDaemon) -> None:
    holder = daemon.hold()
    assert f"{daemon.instance}.lease1" in str(cgroupfs.membership(holder.pid))
    with daemon.client() as client:
        client.release(holder.lease)
        assert client.show(holder.lease).end_reason == "released by uid 0"
    assert cgroupfs.membership(holder.pid) == cgroupfs.membership(os.getpid())
    assert daemon.groups() == set()
    assert holder.process.poll() is None


def test_release_with_kill_kills(daemon: RealDaemon) -> None:
    holder = daemon.hold()
    with daemon.client() as client:
        client.release(holder.lease, kill=True)
    assert holder.process.wait(5) == -signal.SIGKILL


def test_exclusive_cores_are_exclusive_and_the_pool_makes_room(daemon: RealDaemon, cores_to_give: None) -> None:
    shared = daemon.hold()
    every = os.sched_getaffinity(shared.pid)
    exclusive = daemon.hold(cores=len(every) - 1)
    mine = os.sched_getaffinity(exclusive.pid)
    assert len(mine) == len(every) - 1
    assert os.sched_getaffinity(shared.pid) == every - mine
    assert exclusive.grant.exclusive
    with pytest.raises(NotGranted, match="cores"):
        daemon.hold(cores=1)
    exclusive.end()
    daemon.ended(exclusive.lease)
    assert os.sched_getaffinity(shared.pid) == every


def test_what_the_kernel_does_not_enforce_is_told(daemon: RealDaemon, cores_to_give: None) -> None:
    holder = daemon.hold(cores=1)
    is_v1 = cgroupfs.hierarchies().cpuset == cgroupfs.Controller("cpuset", 1, cgroupfs.hierarchies().cpuset.root)
    assert bool(holder.grant.unenforced) == is_v1


def test_out_of_memory_kills_the_application_alone_and_is_told(daemon: RealDaemon) -> None:
    other = daemon.hold(memory_bytes=64 * MIB)
    glutton = daemon.hold(program="x = bytearray(256 << 20)", memory_bytes=64 * MIB)
    assert glutton.process.wait(10) == -signal.SIGKILL
    assert "1 of its processes killed: out of memory at 64 MiB" in daemon.ended(glutton.lease)
    with daemon.client() as client:
        assert client.show(glutton.lease).oom_kills == 1
        assert client.show(other.lease).oom_kills == 0
    assert other.process.poll() is None


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"memory_bytes": 1 << 50}, NotGranted),
        ({"cores": 4096}, NotGranted),
        ({"require": ("zerocopy",)}, NotSupported),
        ({"path": "vf"}, NotSupported),
        ({"address": "8.8.8.8"}, InvalidRequest),
        ({"queues": 99}, InvalidRequest),
    ],
)
def test_what_cannot_be_granted_is_refused_and_leaves_nothing(
    daemon: RealDaemon, spec: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        daemon.hold(**spec)
    assert daemon.groups() == set()
    assert daemon.has_ports("s0")


def test_an_address_is_given_once(daemon: RealDaemon) -> None:
    base = daemon.prefix.removesuffix("0/24")
    first = daemon.hold(address=f"{base}77")
    with pytest.raises(NotGranted, match=f"held by {first.lease}"):
        daemon.hold(address=f"{base}77")


def test_a_dry_run_changes_nothing(daemon: RealDaemon) -> None:
    with daemon.client() as client:
        planned = client.plan(LeaseSpec(memory_bytes=64 * MIB))
    assert planned.path == "soft"
    assert len(planned.actions) == 4
    assert daemon.groups() == set()


def test_a_namespace_is_plugged_in_reached_and_unplugged(daemon: RealDaemon) -> None:
    name = f"{daemon.instance}x"
    netns.create(name)
    try:
        with daemon.client() as client:
            namespace = os.open(netns.path(name), os.O_RDONLY)
            unit = client.plug(namespace, "eth0")
            os.close(namespace)
            host = client.devices()[0]
            assert (unit.kind, unit.ifname) == ("station", "eth0")
            ping = ["ip", "netns", "exec", name, "ping", "-c", "1", "-W", "2", host.ip4]
            assert subprocess.run(ping, stdout=subprocess.DEVNULL, check=False).returncode == 0
            client.unplug(unit.unit)
            assert [each.unit for each in client.devices()] == ["host"]
            with pytest.raises(InvalidRequest, match="network namespace"), open("/dev/null") as null:
                client.plug(null.fileno(), "eth0")
    finally:
        netns.remove(name)


@pytest.mark.parametrize("daemon", [("--group", "nogroup")], indirect=True)
def test_a_member_of_the_group_gets_a_lease_and_releases_only_its_own(daemon: RealDaemon) -> None:
    mine = daemon.hold(uid=NOBODY)
    roots = daemon.hold()
    script = (
        "import sys, pathlib; from nomx.client.connection import Client\n"
        "with Client.connect(pathlib.Path(sys.argv[1])) as client: client.release(sys.argv[2])"
    )

    def release_as_nobody(holder: Holder) -> int:
        arguments = [os.sys.executable, "-c", script, str(daemon.path), holder.lease]
        return subprocess.run(arguments, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False).returncode

    assert release_as_nobody(mine) == 0
    assert release_as_nobody(roots) != 0
    with daemon.client() as client:
        assert [status.record.lease for status in client.leases()] == [roots.lease]


def test_without_a_group_only_root_is_admitted(daemon: RealDaemon) -> None:
    with pytest.raises(NotPermitted, match="sudo"):
        daemon.hold(uid=NOBODY)
    # Even where the file would let a user in, the daemon does not.
    daemon.path.chmod(0o666)
    with pytest.raises(NotPermitted, match="--group"):
        daemon.hold(uid=NOBODY)
