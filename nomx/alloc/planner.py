"""Decide: (inventory, request, now) → plan, or the reason why there is none. Pure.

The order of a plan's actions is the order of dependence: others make room, the group is made,
then its device and its counters, and the holder joins last, so that a failure before that has
touched nothing of the requester's.
"""

from __future__ import annotations

from dataclasses import dataclass

from nomx.alloc import names
from nomx.alloc.actions import Action, CountCrossings, JoinGroup, MakeGroup, MakePort, PlugPort, SetCpus
from nomx.alloc.inventory import LADDER, Inventory
from nomx.alloc.plan import Plan
from nomx.alloc.validate import check_spec
from nomx.api.lease import LeaseRecord, LeaseSpec, Verdict
from nomx.errors import NotGranted, NotSupported
from nomx.types import CpuSet


@dataclass(frozen=True)
class Request:
    """A lease as somebody asked for it: the wish, and who (as the kernel says) will hold it."""

    spec: LeaseSpec
    uid: int
    holder_pid: int
    holder_start: int
    origin: tuple[tuple[str, str], ...] = ()
    """The holder's cgroups, to which it returns."""


def plan(inventory: Inventory, request: Request, now_ns: int) -> Plan:
    """Plan a lease; *now_ns* (CLOCK_MONOTONIC) becomes its time of grant.

    Raises:
        InvalidRequest: a field of the request is wrong by itself.
        NotSupported: no path of this machine is what was asked for.
        NotGranted: there is not enough of something now, or the process holds a lease already.
    """
    spec = request.spec
    check_spec(spec)
    _check_holder(inventory, request)
    path, verdicts = choose_path(inventory, spec)
    number = _slot(inventory)
    cpus = _cores(inventory, spec.cores) if spec.cores else inventory.pool_cpus
    _check_memory(inventory, spec.memory_bytes)
    instance, group = inventory.instance, names.group(number)
    port = _port(inventory, spec, number) if path == "soft" else None
    actions: list[Action] = [*_make_room(inventory, cpus)] if spec.cores else []
    actions.append(MakeGroup(instance, group, cpus, exclusive=bool(spec.cores), memory_bytes=spec.memory_bytes))
    if port is not None:
        actions.append(port)
    if spec.count_crossings and not inventory.capacity.uncounted:
        actions.append(CountCrossings(instance, group, ifname=port.ifname if port else ""))
    actions.append(JoinGroup(instance, group, request.holder_pid, request.origin))
    record = LeaseRecord(
        lease=f"L{inventory.next_lease}",
        number=number,
        spec=spec,
        path=path,
        uid=request.uid,
        holder_pid=request.holder_pid,
        holder_start=request.holder_start,
        granted_at_ns=now_ns,
        state="granting",
    )
    return Plan(record, tuple(actions), verdicts)


def plan_station(inventory: Inventory, netns: str, ifname: str, address: str | None) -> PlugPort:
    """Plan a namespace's port of the switch, with *address* or the first free one.

    Raises: InvalidRequest, NotSupported (no switch here), NotGranted (address taken, no slot left).
    """
    _check_switch(inventory)
    number = _slot(inventory)
    return _plug(inventory, number, netns, names.check_ifname(ifname), _address(inventory, address, number))


def plan_host_port(inventory: Inventory, netns: str) -> PlugPort:
    """Plan the host's own port: slot 0, the first address of the prefix.

    Raises: NotSupported: no switch here.
    """
    _check_switch(inventory)
    ifname = names.host_ifname(inventory.instance)
    return _plug(inventory, names.HOST_SLOT, netns, ifname, str(names.ip4(inventory.prefix, names.HOST_SLOT)))


def settle_pool(inventory: Inventory) -> tuple[SetCpus, ...]:
    """Return what puts each lease of the shared pool onto the pool's CPUs as they are now."""
    pool = inventory.pool_cpus
    return tuple(
        SetCpus(inventory.instance, held.group.group, pool, before=held.group.cpus)
        for held in inventory.holdings
        if not held.group.exclusive and held.group.cpus != pool
    )


def choose_path(inventory: Inventory, spec: LeaseSpec) -> tuple[str, tuple[Verdict, ...]]:
    """Return the path to take, and the verdicts on those above it, highest first.

    Raises: NotSupported: the path asked for, or any that meets the requirements, is not there.
    """
    if spec.path is not None:
        _check_path(inventory, spec, spec.path)
        return spec.path, _above(inventory, spec.path)
    refusal: NotSupported | None = None
    for path in reversed(LADDER):
        if not _verdict(inventory, path).available:
            continue
        try:
            _check_path(inventory, spec, path)
        except NotSupported as error:
            refusal = refusal or error  # the highest path's reason is the one to tell
            continue
        return path, _above(inventory, path)
    raise refusal or NotSupported(feature="any path", missing="no path is available", remedy="see `nomx doctor`")


def _check_path(inventory: Inventory, spec: LeaseSpec, path: str) -> None:
    verdict = _verdict(inventory, path)
    if not verdict.available:
        raise NotSupported(feature=f"path {path}", missing=verdict.reason, remedy=verdict.remedy)
    if path == "soft" and "zerocopy" in spec.require:
        missing = "a soft VF is a veth, whose driver has no zero-copy AF_XDP"
        remedy = "leave out --require zerocopy to run in copy mode, or use a NIC whose driver has it (`nomx doctor`)"
        raise NotSupported(feature="zerocopy on path soft", missing=missing, remedy=remedy)
    if path == "kernel" and (needs := _device_needs(spec)):
        missing = "the kernel path has ordinary sockets and no device unit"
        remedy = f"leave out {needs[0]}, or mend the soft path (`nomx doctor` says how)"
        raise NotSupported(feature=f"{needs[0]} on path kernel", missing=missing, remedy=remedy)


def _device_needs(spec: LeaseSpec) -> list[str]:
    """Return the options of a request that only a device unit can meet."""
    asked = {
        "--require": bool(spec.require),
        "--bandwidth": spec.bandwidth_bps is not None,
        "--address": spec.address is not None,
        "--queues": spec.queues > 1,
        "--busy-poll": spec.busy_poll,
    }
    return [option for option, is_asked in asked.items() if is_asked]


def _verdict(inventory: Inventory, path: str) -> Verdict:
    verdicts = {verdict.path: verdict for verdict in inventory.capacity.verdicts}
    reason, remedy = "this release of nomx does not hand it out", "ask for a path that `nomx doctor` lists"
    return verdicts.get(path, Verdict(path, available=False, reason=reason, remedy=remedy))


def _above(inventory: Inventory, path: str) -> tuple[Verdict, ...]:
    higher = reversed(LADDER[LADDER.index(path) + 1 :])
    return tuple(_verdict(inventory, each) for each in higher)


def _check_holder(inventory: Inventory, request: Request) -> None:
    for held in inventory.holdings:
        if held.holder_pid == request.holder_pid:
            raise NotGranted(
                resource=f"a lease for process {request.holder_pid}", asked=1, available=0, holder=held.lease
            )


def _slot(inventory: Inventory) -> int:
    if not inventory.free_slots:
        holder = f"{len(inventory.holdings)} leases and {len(inventory.stations)} stations"
        raise NotGranted(resource="slots", asked=1, available=0, holder=holder)
    return inventory.free_slots[0]


def _cores(inventory: Inventory, asked: int) -> CpuSet:
    """Choose CPUs to hand out exclusively, the lowest free ones."""
    if "cpuset" in inventory.capacity.missing_controllers:
        missing = "this host offers no cpuset cgroup controller"
        raise NotSupported(feature="exclusive cores", missing=missing, remedy="mount or enable it, or use --cores 0")
    free = sorted(inventory.free_cpus)
    if asked > len(free):
        holders = [f"the system: CPU {inventory.capacity.system_cpus}"]
        holders += [f"{held.lease}: CPU {held.group.cpus}" for held in inventory.holdings if held.group.exclusive]
        raise NotGranted(resource="cores", asked=asked, available=len(free), holder="; ".join(holders))
    return CpuSet(free[:asked])


def _make_room(inventory: Inventory, cpus: CpuSet) -> tuple[SetCpus, ...]:
    """Return what takes *cpus* out of the shared pool, before they are anybody's own."""
    return tuple(
        SetCpus(inventory.instance, held.group.group, CpuSet(held.group.cpus - cpus), before=held.group.cpus)
        for held in inventory.holdings
        if not held.group.exclusive and held.group.cpus & cpus
    )


def _check_memory(inventory: Inventory, asked_bytes: int | None) -> None:
    if asked_bytes is None:
        return
    if "memory" in inventory.capacity.missing_controllers:
        missing = "this host offers no memory cgroup controller"
        raise NotSupported(feature="a memory limit", missing=missing, remedy="enable it, or leave out --memory")
    if asked_bytes > inventory.free_memory_bytes:
        holders = [held.lease for held in inventory.holdings if held.group.memory_bytes]
        raise NotGranted(
            resource="bytes of memory",
            asked=asked_bytes,
            available=max(0, inventory.free_memory_bytes),
            holder=", ".join(holders) or "the system",
        )


def _port(inventory: Inventory, spec: LeaseSpec, number: int) -> MakePort:
    if spec.queues > inventory.capacity.soft_queues:
        available = inventory.capacity.soft_queues
        raise NotGranted(resource="queues of a soft VF", asked=spec.queues, available=available, holder="this machine")
    return MakePort(
        instance=inventory.instance,
        port=number,
        switch_ifname=names.switch_ifname(number),
        ifname=names.device_ifname(number),
        mac=names.mac(inventory.instance, number),
        ip4=_address(inventory, spec.address, number),
        prefix_len=inventory.prefix.prefixlen,
        ip6=names.ip6(inventory.instance, number),
        queues=spec.queues,
        mtu_bytes=inventory.mtu_bytes,
        bandwidth_bps=spec.bandwidth_bps,
    )


def _check_switch(inventory: Inventory) -> None:
    soft = _verdict(inventory, "soft")
    if not soft.available:
        raise NotSupported(feature="plugging a namespace into the switch", missing=soft.reason, remedy=soft.remedy)


def _plug(inventory: Inventory, number: int, netns: str, ifname: str, ip4: str) -> PlugPort:
    return PlugPort(
        instance=inventory.instance,
        port=number,
        switch_ifname=names.switch_ifname(number),
        netns=netns,
        ifname=ifname,
        mac=names.mac(inventory.instance, number),
        ip4=ip4,
        prefix_len=inventory.prefix.prefixlen,
        ip6=names.ip6(inventory.instance, number),
        mtu_bytes=inventory.mtu_bytes,
    )


def _address(inventory: Inventory, asked: str | None, number: int) -> str:
    """Return the address asked for, or the slot's own, or the next one that is free."""
    taken = inventory.addresses
    if asked is not None:
        address = str(names.parse_address(asked, inventory.prefix))
        if address in taken:
            raise NotGranted(resource=f"address {address}", asked=1, available=0, holder=taken[address])
        return address
    for slot in (*range(number, names.MAX_SLOTS), *range(number)):
        free = names.ip4(inventory.prefix, slot)
        if free is not None and str(free) not in taken:
            return str(free)
    raise NotGranted(resource=f"addresses of {inventory.prefix}", asked=1, available=0, holder="leases and stations")
