"""The planner: what is granted, from what, and each reason why not. Pure, so no fixture and no kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomx.alloc.actions import CountCrossings, JoinGroup, MakeGroup, MakePort, PlugPort, SetCpus
from nomx.alloc.inventory import Holding, Inventory
from nomx.alloc.plan import describe
from nomx.alloc.planner import Request, plan, plan_host_port, plan_station, settle_pool
from nomx.api.lease import LeaseSpec, Verdict
from nomx.errors import InvalidRequest, NotGranted, NotSupported
from nomx.testing.fake_kernel import FOUR_CORES
from nomx.types import CpuSet

GIB = 1 << 30


def inventory(*holdings, stations=(), prefix="10.77.0.0/16", **capacity):
    return Inventory(
        instance="test",
        prefix=IPv4Network(prefix),
        mtu_bytes=1500,
        capacity=replace(FOUR_CORES, **capacity),
        holdings=holdings,
        stations=stations,
        next_lease=len(holdings) + 1,
    )


def request(pid=100, **spec):
    return Request(LeaseSpec(**spec), uid=1000, holder_pid=pid, holder_start=5, origin=(("", "/"),))


def planned(world, pid=100, **spec):
    return plan(world, request(pid, **spec), now_ns=7)


def holding(world, pid, **spec):
    """Plan a lease in *world* and return it as something that is held."""
    made = planned(world, pid, **spec)
    return Holding.of(made.record.lease, made.record.number, pid, made.owned)


def with_leases(*specs, **world_options):
    """Return an inventory in which each of *specs* was granted, and the pool settled after each."""
    holdings = ()
    for number, spec in enumerate(specs):
        world = inventory(*holdings, **world_options)
        made = planned(world, 100 + number, **spec)
        moved = {action.group: action.cpus for action in made.actions if isinstance(action, SetCpus)}
        holdings = tuple(
            replace(each, group=replace(each.group, cpus=moved.get(each.group.group, each.group.cpus)))
            for each in holdings
        )
        holdings += (Holding.of(made.record.lease, made.record.number, 100 + number, made.owned),)
    return inventory(*holdings, **world_options)


def kinds(made):
    return [type(action) for action in made.actions]


def test_the_holder_joins_last():
    made = planned(inventory())
    assert kinds(made) == [MakeGroup, MakePort, CountCrossings, JoinGroup]
    assert made.record.state == "granting"
    assert made.record.granted_at_ns == 7
    assert made.record.lease == "L1"


def test_the_highest_path_that_is_there_is_taken_and_the_others_are_explained():
    made = planned(inventory())
    assert made.path == "soft"
    assert [verdict.path for verdict in made.verdicts] == ["vfio", "memif", "vf"]
    assert not any(verdict.available for verdict in made.verdicts)


def test_the_kernel_path_has_no_device():
    made = planned(inventory(), path="kernel")
    assert kinds(made) == [MakeGroup, CountCrossings, JoinGroup]
    assert made.verdicts[-1].path == "soft"
    assert made.verdicts[-1].available


def no_soft():
    soft = Verdict("soft", available=False, reason="no AF_XDP", remedy="load af_xdp")
    return inventory(verdicts=tuple(soft if each.path == "soft" else each for each in FOUR_CORES.verdicts))


def test_without_soft_vfs_a_plain_request_gets_the_kernel_path_and_the_reason():
    made = planned(no_soft())
    assert made.path == "kernel"
    assert made.verdicts[-1].reason == "no AF_XDP"


@pytest.mark.parametrize(
    "wish", [{"require": ("native",)}, {"bandwidth_bps": 10**6}, {"address": "10.77.0.9"}, {"queues": 2}]
)
def test_what_only_a_device_can_give_never_falls_back_in_silence(wish):
    with pytest.raises(NotSupported, match=r"no device unit"):
        planned(no_soft(), **wish)


def test_a_path_that_is_not_there_is_refused_with_its_remedy():
    with pytest.raises(NotSupported, match="load af_xdp"):
        planned(no_soft(), path="soft")
    with pytest.raises(NotSupported, match="SR-IOV"):
        planned(inventory(), path="vf")


@pytest.mark.parametrize("path", [None, "soft"])
def test_zerocopy_is_refused_on_a_soft_vf_with_reason_and_remedy(path):
    with pytest.raises(NotSupported, match=r"veth.*copy mode"):
        planned(inventory(), path=path, require=("zerocopy",))


def test_crossings_are_not_planned_where_they_cannot_be_counted_or_are_not_wanted():
    assert CountCrossings not in kinds(planned(inventory(uncounted="no BTF")))
    assert CountCrossings not in kinds(planned(inventory(), count_crossings=False))


def test_exclusive_cores_leave_the_first_to_the_system():
    group = planned(inventory(), cores=2).actions[0]
    assert group.cpus == CpuSet({1, 2})
    assert group.exclusive


def test_cores_beyond_capacity_name_who_has_them():
    world = with_leases({"cores": 2})
    with pytest.raises(NotGranted, match=r"asked for 2, 1 available.*system: CPU 0.*L1: CPU 1-2"):
        planned(world, pid=200, cores=2)


def test_a_shared_lease_makes_room_before_the_exclusive_one_is_made():
    made = planned(with_leases({}), cores=1, pid=200)
    assert kinds(made)[:2] == [SetCpus, MakeGroup]
    room = made.actions[0]
    assert room.before == CpuSet(range(4))
    assert room.cpus == CpuSet({0, 2, 3})
    assert SetCpus not in [type(action) for action in made.owned]


def test_the_pool_grows_when_cores_come_free():
    world = with_leases({}, {"cores": 2})
    assert world.holdings[0].group.cpus == CpuSet({0, 3})
    freed = replace(world, holdings=world.holdings[:1])
    (growth,) = settle_pool(freed)
    assert growth.cpus == CpuSet(range(4))


def test_a_settled_pool_stays():
    assert settle_pool(with_leases({}, {"cores": 2}, {})) == ()


def test_memory_beyond_what_is_promised_to_others_is_refused():
    world = with_leases({"memory_bytes": 3 * GIB})
    with pytest.raises(NotGranted, match=r"available \(held by L1\)"):
        planned(world, pid=200, memory_bytes=2 * GIB)
    assert planned(world, pid=200, memory_bytes=GIB)


def test_memory_without_limit_is_promised_nothing():
    assert with_leases({}, {}).free_memory_bytes == FOUR_CORES.memory_bytes


def test_missing_controllers_refuse_what_needs_them_only():
    world = inventory(missing_controllers=("cpuset", "memory"))
    assert planned(world).path == "soft"
    with pytest.raises(NotSupported, match="cpuset"):
        planned(world, cores=1)
    with pytest.raises(NotSupported, match="memory"):
        planned(world, memory_bytes=GIB)


def test_one_process_holds_one_lease():
    with pytest.raises(NotGranted, match="L1"):
        planned(with_leases({}), pid=100)


def test_queues_beyond_the_machine_are_refused():
    with pytest.raises(NotGranted, match="queues"):
        planned(inventory(), queues=5)


def test_a_taken_address_is_refused_by_its_holder():
    world = with_leases({"address": "10.77.0.9"})
    with pytest.raises(NotGranted, match="held by L1"):
        planned(world, pid=200, address="10.77.0.9")
    with pytest.raises(NotGranted, match="held by host"):
        planned(world, pid=200, address="10.77.0.1")


def test_a_slot_whose_address_somebody_asked_for_gets_another():
    first = holding(inventory(), 100, address="10.77.0.3")
    made = planned(inventory(first), pid=200)
    port = made.actions[1]
    assert port.port == 2
    assert port.ip4 == "10.77.0.4"


def test_a_prefix_can_be_full():
    world = with_leases(*[{}] * 5, prefix="10.1.1.0/29")
    assert {each.port.ip4 for each in world.holdings} == {f"10.1.1.{host}" for host in range(2, 7)}
    with pytest.raises(NotGranted, match=r"addresses of 10\.1\.1\.0/29"):
        planned(world, pid=200)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"path": "warp"}, "path"),
        ({"require": ("speed",)}, "require"),
        ({"cores": -1}, "cores"),
        ({"queues": 0}, "queues"),
        ({"queues": 9}, "queues"),
        ({"memory_bytes": 4096}, "memory"),
        ({"memory_bytes": -1}, "memory"),
        ({"bandwidth_bps": 0}, "bandwidth"),
        ({"address": "8.8.8.8"}, "address"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\nb"}, "name"),
    ],
)
def test_a_field_that_is_wrong_by_itself_is_named(spec, field):
    with pytest.raises(InvalidRequest, match=f"^{field}:"):
        planned(inventory(), **spec)


def test_a_station_gets_a_slot_and_an_address():
    world = inventory(stations=(plan_host_port(inventory(), "/host"),))
    station = plan_station(world, "/run/netns/x", "eth0", None)
    assert (station.port, station.ip4) == (1, "10.77.0.2")
    with pytest.raises(NotGranted, match="held by host"):
        plan_station(world, "/run/netns/x", "eth0", "10.77.0.1")
    with pytest.raises(NotSupported, match="no AF_XDP"):
        plan_station(no_soft(), "/run/netns/x", "eth0", None)


def test_slots_run_out():
    ports = tuple(
        PlugPort("test", slot, "", "", "", "", f"10.77.200.{slot % 256}", 16, "", 1500) for slot in range(1024)
    )
    with pytest.raises(NotGranted, match="slots"):
        planned(inventory(stations=ports))


def test_every_action_can_be_told_to_a_person():
    made = planned(with_leases({}), pid=200, cores=1, memory_bytes=GIB, bandwidth_bps=10**6)
    told = [describe(action) for action in made.actions]
    assert len(set(told)) == 5
    assert all("(" not in line.split()[0] for line in told)


SPECS = st.fixed_dictionaries(
    {
        "path": st.sampled_from([None, "soft", "kernel"]),
        "cores": st.integers(0, 3),
        "memory_bytes": st.none() | st.integers(64, 4096).map(lambda mib: mib << 20),
    }
)


@given(st.lists(st.tuples(SPECS, st.booleans()), max_size=8))
def test_no_unit_has_two_owners_whatever_is_asked(requests):
    holdings = ()
    for pid, (spec, leaves) in enumerate(requests):
        world = inventory(*holdings)
        try:
            made = plan(world, request(pid, **spec), 0)
        except NotGranted:
            continue
        changes = {action.group: action.cpus for action in made.actions if isinstance(action, SetCpus)}
        holdings += (Holding.of(made.record.lease, made.record.number, pid, made.owned),)
        if leaves:
            holdings = holdings[1:]
        changes |= {action.group: action.cpus for action in settle_pool(inventory(*holdings))}
        holdings = tuple(
            replace(each, group=replace(each.group, cpus=changes.get(each.group.group, each.group.cpus)))
            for each in holdings
        )
        exclusive = [cpu for each in holdings if each.group.exclusive for cpu in each.group.cpus]
        shared = [cpu for each in holdings if not each.group.exclusive for cpu in each.group.cpus]
        assert len(exclusive) == len(set(exclusive))
        assert not set(exclusive) & set(shared)
        assert 0 not in exclusive
        assert sum(each.group.memory_bytes or 0 for each in holdings) <= FOUR_CORES.memory_bytes
        assert len({each.number for each in holdings}) == len(holdings)
