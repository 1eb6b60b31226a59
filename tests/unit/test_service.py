"""The service over the fake kernel: every operation, who may do it, and that failures leave nothing."""

from __future__ import annotations

import pytest

from nomx.alloc.actions import CountCrossings, JoinGroup, MakeGroup, MakePort, PlugPort, SetCpus
from nomx.api import messages as m
from nomx.api.lease import LeaseSpec, UmemGeometry
from nomx.daemon.service import PAGE
from nomx.errors import InvalidRequest, MechanismError, NotGranted, NotPermitted, NotSupported, ProtocolError
from nomx.testing.daemon import FakeDaemon
from nomx.testing.fake_kernel import FakeKernel
from nomx.types import CpuSet


@pytest.fixture
def daemon(tmp_path):
    daemon = FakeDaemon(tmp_path)
    yield daemon
    daemon.kill()


def test_a_lease_is_granted_shown_and_ended_with_its_holder(daemon):
    grant = daemon.acquire(100, uid=1000, cores=1, memory_bytes=64 << 20).grant
    assert (grant.lease, grant.path, grant.cpus, grant.exclusive) == ("L1", "soft", "1", True)
    assert daemon.kernel.processes[100].group == "lease1"
    daemon.clock.advance(2.5)
    status = daemon.show("L1")
    assert (status.state, status.seconds, status.pids) == ("granted", 2.5, (100,))
    daemon.holder_ends(100, "L1")
    assert daemon.kernel.is_empty
    ended = daemon.show("L1")
    assert (ended.state, ended.record.state, ended.end_reason) == ("ended", "ended", "its application ended")
    assert daemon.events.events == [("began", "L1"), ("ended", "L1")]


def test_an_oom_kill_is_told_when_the_lease_ends(daemon):
    daemon.acquire(100, memory_bytes=64 << 20)
    daemon.kernel.groups["lease1"].oom_kills = 1
    daemon.holder_ends(100, "L1")
    status = daemon.show("L1")
    assert status.oom_kills == 1
    assert "out of memory at 64 MiB" in status.end_reason


def test_the_dead_holders_children_are_killed(daemon):
    daemon.acquire(100)
    daemon.kernel.start(101)
    daemon.kernel.processes[101].group = "lease1"
    daemon.holder_ends(100, "L1")
    assert 101 not in daemon.kernel.processes


def test_release_lets_processes_live_and_kill_does_not(daemon):
    daemon.acquire(100)
    daemon.acquire(200)
    assert daemon.call(1, m.Release("L1")).body == m.Done()
    assert daemon.kernel.processes[100].group == ""
    daemon.call(1, m.Release("L2", kill=True))
    assert 200 not in daemon.kernel.processes
    assert daemon.kernel.is_empty


def test_only_owner_or_root_releases(daemon):
    daemon.acquire(100, uid=1000)
    with pytest.raises(NotPermitted, match=r"uid 1000.*uid 1001"):
        daemon.call(1, m.Release("L1"), uid=1001)
    daemon.call(1, m.Release("L1"), uid=1000)


def test_a_slot_is_used_again_but_a_name_is_not(daemon):
    daemon.acquire(100)
    daemon.holder_ends(100, "L1")
    daemon.acquire(101)
    assert daemon.show("L2").record.number == 1


def test_a_dry_run_changes_nothing(daemon):
    daemon.kernel.start(100)
    planned = daemon.call(100, m.Acquire(LeaseSpec(cores=1), dry_run=True)).body
    assert planned.path == "soft"
    assert len(planned.actions) == 4
    assert daemon.kernel.is_empty
    assert daemon.acquire(100).grant.lease == "L1"


@pytest.mark.parametrize("kind", [SetCpus, MakeGroup, MakePort, CountCrossings, JoinGroup])
def test_a_step_that_fails_leaves_nothing_of_the_grant(daemon, kind):
    daemon.acquire(50)
    daemon.kernel.fail("apply", kind)
    with pytest.raises(MechanismError, match="injected"):
        daemon.acquire(100, cores=1)
    assert set(daemon.kernel.groups) == {"lease1"}
    assert daemon.kernel.groups["lease1"].cpus == CpuSet(range(4))
    assert daemon.kernel.counted == {"lease1"}
    assert set(daemon.kernel.ports) == {0, 1}
    assert daemon.kernel.processes[100].group == ""
    assert [entry.record.lease for entry in daemon.leases.live] == ["L1"]
    assert daemon.acquire(100, cores=1).grant.cpus == "1"


def test_a_step_that_fails_with_a_bug_leaves_nothing_either(daemon):
    def bug(verb, action):
        if (verb, type(action)) == ("apply", JoinGroup):
            raise ZeroDivisionError

    daemon.kernel.before_step = bug
    with pytest.raises(MechanismError, match="report"):
        daemon.acquire(100)
    assert daemon.kernel.is_empty


@pytest.mark.parametrize("kind", [MakeGroup, MakePort, JoinGroup])
def test_what_cannot_be_undone_is_kept_and_tried_again(daemon, kind):
    daemon.acquire(100, cores=3)
    daemon.kernel.fail("undo", kind, times=2)
    daemon.holder_ends(100, "L1")
    assert daemon.show("L1").state == "ending"
    with pytest.raises(NotGranted):
        daemon.acquire(101, cores=1)
    daemon.leases.tend()
    assert daemon.show("L1").state == "ending"
    daemon.leases.tend()
    assert daemon.show("L1").state == "ended"
    assert daemon.kernel.is_empty
    assert daemon.events.events == [("began", "L1"), ("ended", "L1")]


def test_a_release_that_stays_unfinished_says_so(daemon):
    daemon.acquire(100)
    daemon.kernel.fail("undo", MakePort, times=1)
    with pytest.raises(MechanismError, match="tried again"):
        daemon.call(1, m.Release("L1"))


def test_the_pool_shrinks_and_grows_around_exclusive_leases(daemon):
    daemon.acquire(100)
    assert daemon.acquire(200, cores=2).grant.cpus == "1-2"
    assert daemon.show("L1").cpus == "0,3"
    assert daemon.acquire(300).grant.cpus == "0,3"
    daemon.holder_ends(200, "L2")
    assert daemon.show("L1").cpus == "0-3"
    assert daemon.show("L3").cpus == "0-3"


def test_a_device_is_attached_once_by_the_holder(daemon):
    daemon.acquire(100)
    attach = m.Attach("L1", UmemGeometry())
    with pytest.raises(NotPermitted, match="process 100"):
        daemon.call(101, attach, 7)
    device = daemon.call(100, attach, 7).body.device
    assert (device.unit, device.ip4, device.ifname) == ("soft1", "10.77.0.2", "a1")
    assert daemon.show("L1").device == device
    with pytest.raises(NotGranted, match="soft1"):
        daemon.call(100, attach, 7)


def test_a_kernel_lease_has_nothing_to_attach(daemon):
    daemon.acquire(100, path="kernel")
    with pytest.raises(NotSupported, match="path kernel"):
        daemon.call(100, m.Attach("L1", UmemGeometry()), 7)


@pytest.mark.parametrize(
    ("body", "fds"), [(m.Hello(), (7,)), (m.Attach("L1", UmemGeometry()), ()), (m.Plug("x"), (7, 8))]
)
def test_descriptors_come_exactly_where_they_belong(daemon, body, fds):
    with pytest.raises(ProtocolError, match="descriptors"):
        daemon.call(100, body, *fds)


@pytest.mark.parametrize("body", [m.Show("L9"), m.Release("L9"), m.Leases(after="L9 "), m.Devices(after="!")])
def test_unknown_names_are_invalid(daemon, body):
    with pytest.raises(InvalidRequest):
        daemon.call(100, body)


def test_a_caller_without_a_process_gets_no_lease(daemon):
    with pytest.raises(NotPermitted, match="process 0"):
        daemon.call(0, m.Acquire(LeaseSpec()))


def test_long_lists_come_in_pages_and_miss_nothing_when_leases_end_between(daemon):
    for pid in range(100, 100 + 2 * PAGE + 1):
        daemon.acquire(pid)
    seen, after, more = [], "", True
    while more:
        answer = daemon.call(1, m.Leases(after=after)).body
        seen += [status.record.lease for status in answer.leases]
        after, more = seen[-1], answer.more
        daemon.leases.end(after, "test", kill=True)
    assert seen == [f"L{number}" for number in range(1, 2 * PAGE + 2)]


def test_devices_are_host_stations_and_soft_vfs_by_slot(daemon):
    daemon.acquire(100)
    daemon.call(1, m.Plug("eth0", "10.77.0.200"), 7)
    daemon.acquire(101, path="kernel")
    units = daemon.call(1, m.Devices()).body.units
    assert [(unit.unit, unit.kind, unit.holder) for unit in units] == [
        ("host", "host", "host"),
        ("soft1", "soft", "L1"),
        ("station2", "station", "host"),
    ]
    assert units[2].ip4 == "10.77.0.200"


def test_where_the_host_cannot_be_plugged_in_there_is_the_kernel_path(tmp_path):
    kernel = FakeKernel()
    kernel.fail("apply", PlugPort)
    daemon = FakeDaemon(tmp_path, kernel)
    assert kernel.ports == {}
    grant = daemon.acquire(100).grant
    assert grant.path == "kernel"
    assert "injected" in grant.verdicts[-1].reason
    daemon.kill()


def test_plugging_is_roots(daemon):
    with pytest.raises(NotPermitted, match="root"):
        daemon.call(1, m.Plug("eth0"), 7, uid=1000)
    with pytest.raises(NotPermitted, match="root"):
        daemon.call(1, m.Unplug("station1"), uid=1000)


def test_a_plug_that_fails_leaves_nothing(daemon):
    daemon.kernel.fail("apply", PlugPort)
    with pytest.raises(MechanismError):
        daemon.call(1, m.Plug("eth0"), 7)
    assert list(daemon.kernel.ports) == [0]
    assert [station.port for station in daemon.journal.stations()] == [0]


def test_unplug_takes_stations_but_never_the_hosts_port(daemon):
    unit = daemon.call(1, m.Plug("eth0"), 7).body.unit
    daemon.call(1, m.Unplug(unit.unit))
    assert list(daemon.kernel.ports) == [0]
    with pytest.raises(InvalidRequest):
        daemon.call(1, m.Unplug("host"))


def test_hello_tells_capacity_and_what_is_free(daemon):
    daemon.acquire(100, cores=2, memory_bytes=1 << 30)
    welcome = daemon.call(1, m.Hello()).body
    assert welcome.capacity["cores"] == 3
    assert welcome.free["cores"] == 1
    assert welcome.capacity["memory_bytes"] - welcome.free["memory_bytes"] == 1 << 30


def test_doctor_tells_every_path(daemon):
    assert [verdict.path for verdict in daemon.call(1, m.Doctor()).body.verdicts] == [
        "kernel",
        "soft",
        "vf",
        "memif",
        "vfio",
    ]


def test_a_status_that_cannot_be_read_is_half_a_status_and_no_error(daemon):
    daemon.acquire(100)
    daemon.kernel.counted.clear()
    del daemon.kernel.ports[1]
    status = daemon.show("L1")
    assert status.crossings is None
    assert "ENOENT" in status.uncounted


def test_a_status_names_only_so_many_processes(daemon):
    daemon.acquire(100)
    for pid in range(1000, 1500):
        daemon.kernel.start(pid)
        daemon.kernel.processes[pid].group = "lease1"
    assert len(daemon.show("L1").pids) == 64
