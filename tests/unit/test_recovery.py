"""Recovery: a daemon killed at any point of anything, and the next one makes journal and kernel agree again."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nomx.alloc.actions import CountCrossings, MakeGroup, MakePort, SetCpus
from nomx.api import messages as m
from nomx.api.lease import UmemGeometry
from nomx.daemon.journal import KEPT_ENDED, Journal
from nomx.errors import MechanismError, NomxError, NotSupported
from nomx.testing.daemon import FakeDaemon
from nomx.testing.fake_kernel import Killed
from nomx.types import CpuSet


@pytest.fixture
def daemon(tmp_path):
    daemon = FakeDaemon(tmp_path)
    yield daemon
    daemon.kill()


def restart(daemon):
    daemon.kill()
    daemon.start()


def test_a_lease_whose_holder_lives_is_adopted_whole(daemon):
    daemon.acquire(100, cores=1, name="mine")
    daemon.call(100, m.Attach("L1", UmemGeometry()), 7)
    before = daemon.show("L1")
    restart(daemon)
    assert daemon.show("L1") == before
    assert daemon.events.events == [("began", "L1"), ("began", "L1")]
    assert daemon.acquire(101).grant.lease == "L2"


def test_a_lease_whose_holder_died_meanwhile_is_undone(daemon):
    daemon.acquire(100)
    daemon.kernel.end(100)
    restart(daemon)
    assert daemon.kernel.is_empty
    assert "while no daemon ran" in daemon.show("L1").end_reason


def test_another_process_with_the_holders_pid_is_not_the_holder(daemon):
    daemon.acquire(100)
    daemon.kernel.end(100)
    daemon.kernel.start(100, start=99)
    restart(daemon)
    assert daemon.kernel.is_empty
    assert 100 in daemon.kernel.processes


def test_a_lease_whose_device_was_deleted_by_hand_is_ended(daemon):
    daemon.acquire(100)
    del daemon.kernel.ports[1]
    restart(daemon)
    assert daemon.kernel.is_empty
    assert "MakePort was undone by somebody else" in daemon.show("L1").end_reason


def test_lost_counters_cost_no_lease(daemon):
    daemon.acquire(100)
    daemon.kernel.counted.clear()
    restart(daemon)
    assert daemon.show("L1").state == "granted"
    assert daemon.kernel.counted == {"lease1"}


def test_a_lease_that_cannot_be_adopted_is_ended_and_the_daemon_runs(daemon):
    daemon.acquire(100)
    daemon.kernel.counted.clear()
    daemon.kernel.fail("apply", CountCrossings)
    restart(daemon)
    assert "could not be adopted" in daemon.show("L1").end_reason


def test_orphans_of_a_lost_journal_are_removed(daemon, tmp_path):
    daemon.acquire(100)
    daemon.kill()
    for path in tmp_path.glob("journal*"):
        path.unlink()
    daemon.start()
    assert daemon.kernel.is_empty
    assert 100 in daemon.kernel.processes


def test_the_journal_of_another_boot_starts_empty(daemon):
    daemon.acquire(100)
    daemon.kill()
    daemon.start(boot_id="another")
    assert daemon.leases.live == ()
    assert daemon.kernel.is_empty


def test_dead_stations_are_forgotten(daemon):
    station = daemon.call(1, m.Plug("eth0"), 7).body.unit
    daemon.kernel.namespaces.add("/other")
    assert station.unit == "station1"
    restart(daemon)
    assert [each.port for each in daemon.leases.stations] == [0]


def test_a_pool_that_was_moved_by_half_is_settled(daemon):
    daemon.acquire(100)

    def die(verb, action):
        if (verb, type(action)) == ("apply", MakeGroup):
            raise Killed

    daemon.kernel.before_step = die
    with pytest.raises(Killed):
        daemon.acquire(200, cores=2)
    assert daemon.kernel.groups["lease1"].cpus == CpuSet({0, 3})
    daemon.kernel.before_step = lambda verb, action: None
    restart(daemon)
    assert daemon.kernel.groups["lease1"].cpus == CpuSet(range(4))


def test_a_pool_that_was_not_given_back_is_settled(daemon):
    daemon.acquire(100)
    daemon.acquire(200, cores=2)

    def die(verb, action):
        if (verb, type(action)) == ("apply", SetCpus):
            raise Killed

    daemon.kernel.before_step = die
    with pytest.raises(Killed):
        daemon.holder_ends(200, "L2")
    daemon.kernel.before_step = lambda verb, action: None
    restart(daemon)
    assert daemon.show("L2").state == "ended"
    assert daemon.kernel.groups["lease1"].cpus == CpuSet(range(4))


def test_a_clean_stop_without_leases_leaves_nothing(daemon, tmp_path):
    daemon.acquire(100)
    daemon.holder_ends(100, "L1")
    assert daemon.leases.close()
    assert daemon.kernel.ports == {}
    assert list(tmp_path.iterdir()) == []


def test_a_stop_with_leases_leaves_them_to_the_next_daemon(daemon):
    daemon.acquire(100)
    assert not daemon.leases.close()
    assert set(daemon.kernel.ports) == {0, 1}
    daemon.start()
    assert daemon.show("L1").state == "granted"


def test_only_so_many_ended_leases_are_kept(daemon):
    daemon.kernel.start(100)
    for _ in range(KEPT_ENDED + 3):
        lease = daemon.acquire(100, path="kernel").grant.lease
        daemon.leases.end(lease, "test", kill=False)
    assert daemon.journal.ended("L3") is None
    assert daemon.journal.ended("L4") is not None


def test_a_journal_that_takes_nothing_refuses_grants_and_undoes_nothing_less(daemon):
    daemon.acquire(100)
    daemon.journal._database.execute("PRAGMA query_only = 1")
    with pytest.raises(MechanismError, match="journal"):
        daemon.acquire(200)
    assert set(daemon.kernel.groups) == {"lease1"}
    daemon.holder_ends(100, "L1")
    assert daemon.kernel.is_empty
    daemon.journal._database.execute("PRAGMA query_only = 0")
    daemon.leases.tend()
    assert daemon.show("L1").state == "ended"


def test_a_damaged_journal_is_refused_in_words(tmp_path):
    (tmp_path / "journal.sqlite").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(MechanismError, match=r"delete .*journal\.sqlite"):
        Journal.open(tmp_path / "journal.sqlite", "boot")


def test_a_damaged_entry_is_refused_in_words(daemon, tmp_path):
    daemon.acquire(100)
    daemon.kill()
    with sqlite3.connect(tmp_path / "journal.sqlite") as database:
        database.execute("UPDATE live SET entry = ?", (b"{]",))
    database.close()
    with pytest.raises(MechanismError, match="damaged"):
        daemon.start()
    daemon.kill()


def test_a_newer_journal_is_refused(daemon, tmp_path):
    daemon.kill()
    with sqlite3.connect(tmp_path / "journal.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(NotSupported, match="format 99"):
        Journal.open(tmp_path / "journal.sqlite", "boot")


class Machine(RuleBasedStateMachine):
    """Random operations, and a kill -9 before a random step of any of them."""

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="nomx-recovery-"))
        self.daemon = FakeDaemon(self.directory)
        self.steps_left = None
        self.next_pid = 100
        self.daemon.kernel.before_step = self.step

    def teardown(self):
        self.daemon.journal.close()
        shutil.rmtree(self.directory)

    def step(self, verb, action):
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise Killed

    def surviving(self, operation):
        """Carry out *operation*; if the daemon is killed in it, start the next one."""
        try:
            operation()
        except NomxError:
            pass
        except Killed:
            self.steps_left = None
            restart(self.daemon)

    @rule(steps=st.none() | st.integers(0, 12))
    def arm(self, steps):
        self.steps_left = steps

    @rule(cores=st.integers(0, 3), path=st.sampled_from([None, "kernel"]))
    def acquire(self, cores, path):
        self.next_pid += 1
        self.surviving(lambda: self.daemon.acquire(self.next_pid, cores=cores, path=path))

    @precondition(lambda self: self.daemon.leases.live)
    @rule(data=st.data(), kill=st.booleans())
    def release(self, data, kill):
        lease = data.draw(st.sampled_from([entry.record.lease for entry in self.daemon.leases.live]))
        self.surviving(lambda: self.daemon.call(1, m.Release(lease, kill=kill)))

    @precondition(lambda self: self.daemon.leases.live)
    @rule(data=st.data(), noticed=st.booleans())
    def holder_ends(self, data, noticed):
        entry = data.draw(st.sampled_from(self.daemon.leases.live))
        if entry.record.holder_pid in self.daemon.kernel.processes:
            self.daemon.kernel.end(entry.record.holder_pid)
        if noticed:
            self.surviving(lambda: self.daemon.leases.end(entry.record.lease, "its application ended", kill=True))

    @rule()
    def kill_between_operations(self):
        self.steps_left = None
        restart(self.daemon)
        for entry in self.daemon.leases.live:
            assert entry.record.holder_pid in self.daemon.kernel.processes

    @rule()
    def tend(self):
        self.surviving(self.daemon.leases.tend)

    @invariant()
    def journal_and_memory_agree(self):
        assert {entry.record.lease: entry for entry in self.daemon.journal.live()} == {
            entry.record.lease: entry for entry in self.daemon.leases.live
        }

    @invariant()
    def kernel_and_journal_agree(self):
        actions = [action for entry in self.daemon.leases.live for action in entry.actions]
        kernel = self.daemon.kernel
        assert set(kernel.groups) == {each.group for each in actions if isinstance(each, MakeGroup)}
        assert set(kernel.ports) == {0} | {each.port for each in actions if isinstance(each, MakePort)}
        assert kernel.counted == {each.group for each in actions if isinstance(each, CountCrossings)}
        for each in actions:
            if isinstance(each, MakeGroup):
                assert kernel.groups[each.group].cpus == each.cpus

    @invariant()
    def no_cpu_has_two_owners(self):
        groups = self.daemon.kernel.groups.values()
        exclusive = [cpu for group in groups if group.exclusive for cpu in group.cpus]
        shared = {cpu for group in groups if not group.exclusive for cpu in group.cpus}
        assert len(exclusive) == len(set(exclusive))
        assert not shared & set(exclusive)
        assert 0 not in exclusive

    @invariant()
    def the_shared_pool_is_all_that_is_left(self):
        inventory = self.daemon.leases.inventory()
        for held in inventory.holdings:
            if not held.group.exclusive:
                assert held.group.cpus == inventory.pool_cpus

    @invariant()
    def no_process_is_in_a_group_that_is_gone(self):
        groups = {process.group for process in self.daemon.kernel.processes.values()}
        assert groups <= {"", *self.daemon.kernel.groups}


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestKilledAnywhere = Machine.TestCase
