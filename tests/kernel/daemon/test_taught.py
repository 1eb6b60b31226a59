"""What the fake kernel was taught (`nomx.testing.fake_kernel`), proven on the real one, in the same order and words."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Callable, Iterator

import pytest

from nomx.alloc import names
from nomx.alloc.actions import CountCrossings, JoinGroup, MakeGroup, MakePort, PlugPort, SetCpus
from nomx.api.lease import LeaseSpec, UmemGeometry
from nomx.daemon.kernel import Kernel
from nomx.daemon.linux_kernel import LinuxKernel
from nomx.daemon.settings import Settings
from nomx.errors import MechanismError
from nomx.linux import cgroupfs, memory, netns
from nomx.testing.fake_kernel import FakeKernel
from nomx.testing.real_daemon import prefix_of
from nomx.types import CpuSet

pytestmark = [pytest.mark.root, pytest.mark.netns]

LAST_CPU = max(os.sched_getaffinity(0))


class World:
    """A kernel, fake or real, and what a test does in it."""

    def __init__(self, kernel: Kernel, instance: str, cleanup: contextlib.ExitStack) -> None:
        self.kernel = kernel
        self.instance = instance
        self._cleanup = cleanup

    def group(self, number: int, cpus: CpuSet | None = None, *, exclusive: bool = False) -> MakeGroup:
        cpus = CpuSet({LAST_CPU}) if cpus is None else cpus
        action = MakeGroup(self.instance, names.group(number), cpus, exclusive, memory_bytes=64 << 20)
        self._cleanup.callback(self.kernel.undo, action)
        return action

    def port(self, slot: int) -> MakePort:
        action = MakePort(
            instance=self.instance,
            port=slot,
            switch_ifname=names.switch_ifname(slot),
            ifname=names.device_ifname(slot),
            mac=names.mac(self.instance, slot),
            ip4=prefix_of(self.instance).replace("0/24", str(slot + 1)),
            prefix_len=24,
            ip6=names.ip6(self.instance, slot),
            queues=1,
            mtu_bytes=1500,
            bandwidth_bps=None,
        )
        self._cleanup.callback(self.kernel.undo, action)
        return action

    def process(self) -> int:
        """Start a process that does nothing."""
        if isinstance(self.kernel, FakeKernel):
            pid = 1000 + len(self.kernel.processes)
            self.kernel.start(pid)
            return pid
        sleeping = subprocess.Popen(["sleep", "60"])
        self._cleanup.callback(lambda: (sleeping.kill(), sleeping.wait()))
        return sleeping.pid

    def end(self, pid: int) -> None:
        if isinstance(self.kernel, FakeKernel):
            self.kernel.end(pid)
        else:
            os.kill(pid, 9)
            os.waitpid(pid, 0)

    def lives(self, pid: int) -> bool:
        if isinstance(self.kernel, FakeKernel):
            return pid in self.kernel.processes
        pidfd = os.pidfd_open(pid)
        try:
            return not select.select([pidfd], [], [], 0.5)[0]
        finally:
            os.close(pidfd)

    def namespace(self) -> tuple[str, Callable[[], None]]:
        """Make a namespace; its path and the way to delete it."""
        if isinstance(self.kernel, FakeKernel):
            self.kernel.namespaces.add("/other")
            return "/other", lambda: self.kernel.namespaces.discard("/other")
        name = f"{self.instance}n"
        netns.create(name)
        self._cleanup.callback(netns.remove, name)
        return str(netns.path(name)), lambda: netns.remove(name)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest, instance: str) -> Iterator[World]:
    with contextlib.ExitStack() as cleanup:
        if request.param == "fake":
            kernel: Kernel = FakeKernel()
        else:
            kernel = LinuxKernel.open(Settings(instance=instance, prefix_text=prefix_of(instance)))
            cleanup.callback(kernel.close, remove=True)
        yield World(kernel, instance, cleanup)


def test_1_a_step_shows_up_and_is_undone_any_number_of_times(world: World) -> None:
    group, port = world.group(1), world.port(1)
    count = CountCrossings(world.instance, group.group, port.ifname)
    for action in (group, port, count):
        world.kernel.undo(action)  # never begun
        assert not world.kernel.exists(action)
        world.kernel.apply(action)
        assert world.kernel.exists(action)
    for action in (count, port, group):
        world.kernel.undo(action)
        assert not world.kernel.exists(action)
        world.kernel.undo(action)


@pytest.mark.skipif(
    cgroupfs.hierarchies().cpuset is None or cgroupfs.hierarchies().cpuset.version != 1,
    reason="a cgroup v2 host refuses a partition instead, and `unenforced` tells it",
)
def test_2_no_group_is_given_a_cpu_that_another_holds_exclusively(world: World, cores_to_give: None) -> None:
    every = CpuSet(os.sched_getaffinity(0))
    shared, exclusive = world.group(1, CpuSet(every - {LAST_CPU})), world.group(2, exclusive=True)
    world.kernel.apply(shared)
    world.kernel.apply(exclusive)
    with pytest.raises(MechanismError):
        world.kernel.apply(SetCpus(world.instance, shared.group, every, before=shared.cpus))
    with pytest.raises(MechanismError):
        world.kernel.apply(world.group(3, every))
    assert world.kernel.group(shared).cpus == shared.cpus
    world.kernel.undo(exclusive)
    world.kernel.apply(SetCpus(world.instance, shared.group, every, before=shared.cpus))
    assert world.kernel.group(shared).cpus == every


def test_3_a_process_that_ended_joins_no_group_and_leaves_its_own(world: World) -> None:
    group, pid = world.group(1), world.process()
    world.kernel.apply(group)
    world.kernel.apply(JoinGroup(world.instance, group.group, pid))
    assert world.kernel.group(group).pids == (pid,)
    world.end(pid)
    assert world.kernel.group(group).pids == ()
    with pytest.raises(MechanismError):
        world.kernel.apply(JoinGroup(world.instance, group.group, pid))


def test_4_a_group_with_a_live_process_is_not_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomx.mech.cgroup._EMPTY_WITHIN_NS", 0)
    group, pid = world.group(1), world.process()
    world.kernel.apply(group)
    world.kernel.apply(JoinGroup(world.instance, group.group, pid))
    with pytest.raises(MechanismError):
        world.kernel.undo(group)
    assert world.kernel.exists(group)
    world.kernel.kill(group)
    monkeypatch.undo()


def test_5_kill_ends_every_process_of_a_group(world: World) -> None:
    group, pids = world.group(1), [world.process(), world.process()]
    world.kernel.apply(group)
    for pid in pids:
        world.kernel.apply(JoinGroup(world.instance, group.group, pid))
    world.kernel.kill(group)
    assert not any(world.lives(pid) for pid in pids)


def test_6_undoing_a_join_empties_the_group_and_spares_its_processes(world: World) -> None:
    group, pids = world.group(1), [world.process(), world.process()]
    origin = world.kernel.membership(pids[0])
    world.kernel.apply(group)
    joins = [JoinGroup(world.instance, group.group, pid, origin) for pid in pids]
    for join in joins:
        world.kernel.apply(join)
    world.kernel.undo(joins[0])
    assert world.kernel.group(group).pids == ()
    assert all(world.lives(pid) for pid in pids)
    assert world.kernel.membership(pids[1]) == origin


def test_7_two_ports_cannot_have_one_slot(world: World) -> None:
    world.kernel.apply(world.port(1))
    with pytest.raises(MechanismError):
        world.kernel.apply(world.port(1))


def test_8_only_a_port_that_exists_is_bound_and_once(world: World) -> None:
    port, umem = world.port(1), UmemGeometry()
    fd = memory.memfd("umem", umem.slice_bytes)
    os.posix_fallocate(fd, 0, umem.slice_bytes)
    bound: list[int] = []
    try:
        with pytest.raises(MechanismError):
            world.kernel.bind(port, fd, umem, LeaseSpec())
        world.kernel.apply(port)
        bound += world.kernel.bind(port, fd, umem, LeaseSpec()).xsk_fds
        with pytest.raises(MechanismError):
            world.kernel.bind(port, fd, umem, LeaseSpec())
    finally:
        for each in (fd, *bound):
            os.close(each)


def test_9_a_station_goes_when_its_namespace_does(world: World) -> None:
    path, delete = world.namespace()
    port = world.port(1)
    station = PlugPort(
        instance=world.instance,
        port=1,
        switch_ifname=port.switch_ifname,
        netns=path,
        ifname="eth0",
        mac=port.mac,
        ip4=port.ip4,
        prefix_len=24,
        ip6=port.ip6,
        mtu_bytes=1500,
    )
    world.kernel.apply(station)
    assert world.kernel.exists(station)
    delete()
    for _ in range(500):  # a namespace is taken apart by a worker of the kernel, which tells nobody
        if not world.kernel.exists(station):
            break
        select.select([], [], [], 0.01)
    assert not world.kernel.exists(station)
    world.kernel.undo(station)
