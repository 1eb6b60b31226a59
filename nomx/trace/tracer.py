"""Loads crossings.bpf.c with detail, points it at targets, and reads it. Between targets and snapshots.

Nothing is pinned: programs and maps live by this process's descriptors, so they go with it however
it ends. Counting of all targets begins at one moment, when everything is attached.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nomx.errors import LeaseClosed, MechanismError, NotPermitted, NotSupported
from nomx.linux import abi, abi_trace, perf
from nomx.linux.abi_trace import CpuRecord, SampleWhere, XskRecord
from nomx.linux.bpf import Link, Map, Object, Program, object_path
from nomx.linux.ringbuffer import RingBuffer
from nomx.trace import gaps
from nomx.trace.devices import of_index
from nomx.trace.packets import PacketSource, source_of
from nomx.trace.report import Device, Gap, Packets
from nomx.trace.snapshot import Snapshot, Threads, calls_of, cpu_totals, lost_of
from nomx.trace.target import Target
from nomx.types import CpuSet

_ALWAYS = ("nomx_exit", "nomx_fork", "nomx_leave", "nomx_return", "nomx_syscall", "nomx_fault", "nomx_fault_kernel")
_DEVICES = ("nomx_poll", "nomx_softirq", "nomx_softirq_end", "nomx_interrupt", "nomx_interrupt_end")
_VERDICTS = ("nomx_redirect", "nomx_redirect_err", "nomx_exception")
_MESSAGES = ("nomx_message_rx", "nomx_message_tx")
_AT_SOCKETS = ("nomx_socket_rx", "nomx_socket_tx")
_LOOKS = ("nomx_look", "nomx_look_xsks")
_MAX_LINES = 1024
"""Interrupt lines of all devices."""


@dataclass(frozen=True)
class Options:
    """What to keep beyond counts and times."""

    timeline: bool = False
    """Write each event: a memory of events, and a few per cent more time."""
    clock_hz: int = 0
    """Sample kernel stacks so often on every CPU; 0: not at all."""
    packets: str = "auto"
    """Where packets are counted: see `nomx.trace.packets.source_of`."""
    verdicts: bool = False
    """Count XDP redirects and exceptions: these tracepoints run once a frame."""
    softirqs: bool = True
    """Count and time polls, softirqs and interrupts: where each packet wakes a softirq, that is most of the cost."""
    max_threads: int = 16384
    max_calls: int = 4096
    max_stacks: int = 16384
    event_bytes: int = 32 << 20
    """Room for events between two readings; a power of two."""


class Tracer:
    """The tracer of some targets. A context manager; `start` begins to count."""

    def __init__(self, targets: Sequence[Target], options: Options) -> None:
        """Load and attach; nothing is counted yet.

        Raises:
            NotPermitted: a capability is missing, which is named.
            NotSupported: no BTF, no libbpf, or a kernel without the tracepoints that all counting needs.
            LeaseClosed: a target's cgroup has gone.
            MechanismError: the kernel refused a program.
        """
        self.targets = tuple(targets)
        self.options = options
        gaps.check_permitted()
        if gaps.missing_btf():
            remedy = "use a kernel with CONFIG_DEBUG_INFO_BTF (every distribution's since 2021)"
            raise NotSupported(feature="tracing", missing="no BTF: /sys/kernel/btf/vmlinux is missing", remedy=remedy)
        self._links: list[Link] = []
        self._ring: RingBuffer | None = None
        wanted = self._wanted()
        missing = gaps.missing_programs(wanted)
        left_out = () if options.softirqs else (gaps.LEFT_OUT,)
        self.gaps: tuple[Gap, ...] = (*left_out, *missing.values(), *gaps.of_machine())
        self._object = self._load(wanted - missing.keys())
        try:
            self._attach(wanted - missing.keys())
        except BaseException:
            self.close()
            raise
        self._threads = Threads(self._maps["nomx_threads"])
        self._sources: dict[int, PacketSource] = {}
        self.devices: dict[int, dict[tuple[int, int], Device]] = {}
        """By subject, then by (network namespace, interface): those of the targets, and of their AF_XDP sockets."""

    def _wanted(self) -> frozenset[str]:
        optional = [*_VERDICTS] if self.options.verdicts else []
        optional += _DEVICES if self.options.softirqs else ()
        optional += _MESSAGES if any(target.group is None for target in self.targets) else ()
        return frozenset((*_ALWAYS, *optional))

    def _load(self, programs: frozenset[str]) -> Object:
        opened = Object(object_path("crossings"))
        try:
            for name in (*programs, *_LOOKS, *(("nomx_sample",) if self.options.clock_hz else ())):
                opened.set_autoload(name, True)
            by_group = any(target.group is not None for target in self.targets)
            by_process = any(target.group is None for target in self.targets)
            config = abi_trace.CONFIG.pack(by_group, by_process, True, self.options.timeline)
            opened.constants(".rodata.config")[:] = list(config)
            for name, entries in self._sizes():
                opened.resize(name, entries)
            return opened.load()
        except OSError as error:
            opened.close()
            raise _refused("loading the tracing programs", error) from error

    def _sizes(self) -> Iterator[tuple[str, int]]:
        options = self.options
        yield "nomx_threads", options.max_threads
        yield "nomx_processes", options.max_threads
        yield "nomx_calls", options.max_calls
        yield "nomx_work", max(1, len(self.targets))
        yield "nomx_lines", _MAX_LINES
        if options.clock_hz:
            yield "nomx_stacks", options.max_stacks
            yield "nomx_samples", options.max_stacks
        if options.timeline:
            yield "nomx_events", options.event_bytes

    def _attach(self, programs: frozenset[str]) -> None:
        order = [name for name in (*_ALWAYS, *_DEVICES, *_VERDICTS, *_MESSAGES) if name in programs]
        try:
            self._links += [self._program(name).attach() for name in order]
            for target in self.targets:
                if target.group is not None:
                    self._links += self._at_sockets(target.label, target.group)
            if self.options.clock_hz:
                sample = self._program("nomx_sample")
                clocks = [perf.open_cpu_clock(cpu, self.options.clock_hz) for cpu in _online()]
                self._links += [sample.attach_perf_event(clock) for clock in clocks]
        except OSError as error:
            raise _refused("attaching the tracing programs", error) from error

    def _at_sockets(self, label: str, group: Path) -> list[Link]:
        try:
            return [self._program(name).attach_cgroup(group) for name in _AT_SOCKETS]
        except FileNotFoundError as error:
            raise LeaseClosed(lease=label, reason=f"its cgroup {group} is gone") from error

    def start(self) -> dict[int, Snapshot]:
        """Begin to count every target, all at one moment; return the snapshots of that, by subject."""
        subjects = [(target, target.subject.to_bytes(8, "little")) for target in self.targets]
        for target, subject in subjects:
            self._follow(target, subject)
            for device in target.devices:
                self._own(device, target.subject)
        xsks = self._xsks()
        self._sources = {target.subject: source_of(target, self.options.packets) for target in self.targets}
        for number, source in self._sources.items():
            source.read(Packets(), xsks.get(number, ()))
        if self.options.timeline:
            self._ring = RingBuffer(self._maps["nomx_events"], abi_trace.EVENT.size)
        for _, subject in subjects:
            self._maps["nomx_groups"].update(subject, bytes(abi.CrossingCounters.FORMAT.size))
        now_ns = time.monotonic_ns()
        self._program("nomx_look").iterate()
        return {
            target.subject: Snapshot.beginning(now_ns, len(self._cpus()), tuple(xsks.get(target.subject, ())))
            for target in self.targets
        }

    def _own(self, device: Device, subject: int) -> None:
        """Count the polls and interrupts of *device* for *subject*."""
        packed = subject.to_bytes(8, "little")
        self._maps["nomx_owners"].update(abi_trace.INTERFACE.pack(device.netns, device.ifindex), packed)
        for line in device.interrupt_lines:
            self._maps["nomx_lines"].update(line.to_bytes(4, "little"), packed)
        self.devices.setdefault(subject, {})[device.netns, device.ifindex] = device

    def _follow(self, target: Target, subject: bytes) -> None:
        """Put a tree's processes into the map: again until none was forked while we looked.

        Forks of those that are in the map are followed by the kernel's side.
        """
        if target.group is not None:
            return
        table = self._maps["nomx_processes"]
        known: set[int] = set()
        while new := set(target.processes()) - known:
            for pid in new:
                table.update(pid.to_bytes(4, "little"), subject)
            known |= new

    def read(self) -> dict[int, Snapshot]:
        """Return what was counted of each target until now, by subject."""
        self._program("nomx_look").iterate()
        xsks = self._xsks()
        now_ns = time.monotonic_ns()
        cpus = self._cpus()
        threads = self._threads.read(cpus, now_ns)
        calls = calls_of(self._maps["nomx_calls"])
        lost = lost_of(cpus, sum(program.missed for program in self._object.programs.values()))
        snapshots = {}
        for subject, source in self._sources.items():
            totals = cpu_totals(self._maps["nomx_groups"], self._maps["nomx_work"], subject)
            mine = tuple(xsks.get(subject, ()))
            snapshots[subject] = Snapshot(
                at_ns=now_ns,
                cpus=totals,
                threads={name: thread for name, thread in threads.items() if thread.subject == subject},
                calls=calls.get(subject, {}),
                xsks=mine,
                packets=source.read(sum((cpu.socket_packets for cpu in totals), Packets()), mine),
                lost=lost,
            )
        return snapshots

    def watch_rings(self) -> None:
        """Look at the AF_XDP rings between two readings, so that less is missed of a socket that is closed."""
        xsks = self._xsks()
        for subject, source in self._sources.items():
            source.watch(xsks.get(subject, ()))

    def packets_at(self, target: Target) -> str:
        """Say where the target's packets are counted."""
        return self._sources[target.subject].where

    def has_ended(self, target: Target) -> bool:
        """Whether no process of the target is left."""
        if target.group is not None:
            return not target.processes()
        subject = target.subject.to_bytes(8, "little")
        table = self._maps["nomx_processes"]
        return not any(table.lookup(pid) == subject for pid in list(table.keys()))

    def events(self) -> bytes:
        """Return the events since they were last asked for, as `timeline.unpack` reads them, and free their room."""
        return self._ring.read() if self._ring is not None else b""

    def samples(self) -> Iterator[tuple[int, SampleWhere, tuple[int, ...], int]]:
        """Yield (subject or 0, where, addresses from the innermost frame out, how often) of every kind of sample."""
        if not self.options.clock_hz:
            return
        stacks = self._maps["nomx_stacks"]
        for key in list(self._maps["nomx_samples"].keys()):
            subject, stack, where = abi_trace.SAMPLE_KEY.unpack(key)
            count = sum(int.from_bytes(value, "little") for value in self._maps["nomx_samples"].lookup_each_cpu(key))
            packed = stacks.lookup(stack.to_bytes(4, "little")) if stack >= 0 else None
            frames = struct.unpack(f"={abi_trace.STACK_DEPTH}Q", packed) if packed else ()
            yield subject, SampleWhere(where), tuple(frame for frame in frames if frame), count

    def _xsks(self) -> dict[int, list[XskRecord]]:
        """Return the AF_XDP sockets by subject; the devices that they are bound to become their subject's."""
        found: dict[int, list[XskRecord]] = {}
        subjects = {target.subject for target in self.targets}
        for xsk in XskRecord.unpack_all(self._program("nomx_look_xsks").iterate()):
            if xsk.subject not in subjects:  # of a cgroup that is not traced
                continue
            found.setdefault(xsk.subject, []).append(xsk)
            if xsk.ifindex and (xsk.netns, xsk.ifindex) not in self.devices.get(xsk.subject, {}):
                self._own(of_index(xsk.ifindex, xsk.netns), xsk.subject)
        return found

    def _cpus(self) -> list[CpuRecord]:
        return [CpuRecord.total([value]) for value in self._maps["nomx_cpus"].lookup_each_cpu(bytes(4))]

    @property
    def _maps(self) -> dict[str, Map]:
        return self._object.maps

    def _program(self, name: str) -> Program:
        return self._object.programs[name]

    def close(self) -> None:
        """Stop counting: nothing is left."""
        for link in self._links:
            link.close()
        self._links = []
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self._object.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _online() -> CpuSet:
    return CpuSet.parse(Path("/sys/devices/system/cpu/online").read_text().strip())


def _refused(operation: str, error: OSError) -> NotPermitted | MechanismError:
    if error.errno in (errno.EPERM, errno.EACCES):
        missing = f"the kernel refused it ({error}); CAP_BPF, CAP_PERFMON or, for sockets, CAP_NET_ADMIN"
        remedy = "run it as root (sudo); in a container, on the host"
        return NotPermitted(operation=operation, missing=missing, remedy=remedy)
    hint = "NOMX_LIBBPF_DEBUG=1 shows what the verifier says; `nomx doctor` tells what this kernel gives"
    return MechanismError(operation=operation, reason=str(error), hint=hint)
