"""The tracer's structs of `bpf/include/nomx/abi.h` as Python reads them; a test compares them with the compiler's.

Times are CLOCK_MONOTONIC nanoseconds, counts start at 0 when the tracer is loaded. What is kept per
CPU is summed by `total`, since every field is a count.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple, Self

LOG2_NS = 32
"""Buckets of a histogram of times: [i] is 2**i to 2**(i+1) ns, the last one and all above."""

STACK_DEPTH = 127
TREE = 1 << 63
"""Set in a subject that is a tree of processes; a cgroup's id is its inode number, far below."""

CALL_XSK = 1
CALL_COMPAT = 1 << 8
"""Kinds of a call (`enum nomx_call_kind`); 0 is plain."""

CONFIG = struct.Struct("=4?4x")
"""`struct nomx_config`: by_group, by_process, detail, timeline."""

CALL_KEY = struct.Struct("=QII")
"""`struct nomx_call_key`: subject, number, kind."""

SAMPLE_KEY = struct.Struct("=QiI")
"""`struct nomx_sample_key`: subject, stack, where."""

INTERFACE = struct.Struct("=II")
"""`struct nomx_interface`: netns, ifindex."""

_CALL = struct.Struct(f"={5 + LOG2_NS}Q")
_THREAD = struct.Struct("=8QII11QII16s")
_WORK = struct.Struct("=9Q")
_CPU = struct.Struct("=8Q")
_XSK = struct.Struct("=QQ16I5Q")


class EventKind(IntEnum):
    """`enum nomx_event_kind`."""

    CALL = 0
    RUN = 1
    FAULT = 2
    POLL = 3
    STOLEN = 4


class SampleWhere(IntEnum):
    """`enum nomx_sample_where`."""

    USER = 0
    KERNEL = 1
    NET_RX = 2


class CallRecord(NamedTuple):
    """`struct nomx_call`: the calls of one number that have ended."""

    ended: int = 0
    wall_ns: int = 0
    cpu_ns: int = 0
    errors: int = 0
    again: int = 0
    wall_log2_ns: tuple[int, ...] = (0,) * LOG2_NS

    @classmethod
    def total(cls, values: Iterable[bytes]) -> Self:
        """Sum the values of each CPU."""
        ended, wall_ns, cpu_ns, errors, again, *log2_ns = _total(_CALL, values)
        return cls(ended, wall_ns, cpu_ns, errors, again, tuple(log2_ns))


class ThreadRecord(NamedTuple):
    """`struct nomx_thread`."""

    subject: int
    start_ns: int
    ended_ns: int
    running_since_ns: int
    stolen_mark_ns: int
    arrived_ns: int
    call_since_ns: int
    call_cpu_ns: int
    call_number: int
    call_kind: int
    user_ns: int
    call_ns: int
    stolen_ns: int
    syscalls: int
    page_faults: int
    kernel_faults: int
    major_faults: int
    major_before: int
    voluntary_switches: int
    involuntary_switches: int
    migrations: int
    tgid: int
    cpu: int
    comm: bytes

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Read one."""
        return cls(*_THREAD.unpack(value))


class WorkRecord(NamedTuple):
    """`struct nomx_device_work`."""

    interrupts: int = 0
    frames: int = 0
    full_polls: int = 0
    poll_ns: int = 0
    own_polls: int = 0
    own_poll_ns: int = 0
    redirects: int = 0
    redirect_errors: int = 0
    exceptions: int = 0

    @classmethod
    def total(cls, values: Iterable[bytes]) -> Self:
        """Sum the values of each CPU."""
        return cls(*_total(_WORK, values))


class CpuRecord(NamedTuple):
    """`struct nomx_cpu`."""

    stolen_ns: int
    interrupt_since_ns: int
    softirq_since_ns: int
    poll_mark_ns: int
    lost_threads: int
    lost_calls: int
    lost_events: int
    lost_samples: int

    @classmethod
    def total(cls, values: Iterable[bytes]) -> Self:
        """Sum the values of each CPU; only the losses mean something then."""
        return cls(*_total(_CPU, values))


class EventRecord(NamedTuple):
    """`struct nomx_event`."""

    start_ns: int
    duration_ns: int
    subject: int
    kind: int
    tid: int
    cpu: int
    detail: int
    call_kind: int


EVENT = struct.Struct("=3Q5I4x")
"""`struct nomx_event`."""


class XskRecord(NamedTuple):
    """`struct nomx_xsk`: an AF_XDP socket as the kernel has it."""

    subject: int
    inode: int
    tgid: int
    fd: int
    netns: int
    ifindex: int
    queue: int
    zerocopy: int
    uses_need_wakeup: int
    tx_budget: int
    rx_entries: int
    tx_entries: int
    rx_produced: int
    rx_consumed: int
    tx_produced: int
    tx_consumed: int
    fill_produced: int
    fill_consumed: int
    rx_dropped: int
    rx_ring_full: int
    fill_ring_empty: int
    tx_ring_empty: int
    tx_invalid: int

    @classmethod
    def unpack_all(cls, data: bytes) -> list[Self]:
        """Read what the iterator wrote."""
        return [cls(*row) for row in _XSK.iter_unpack(data)]


SIZES = {
    "nomx_config": CONFIG.size,
    "nomx_call_key": CALL_KEY.size,
    "nomx_call": _CALL.size,
    "nomx_thread": _THREAD.size,
    "nomx_device_work": _WORK.size,
    "nomx_cpu": _CPU.size,
    "nomx_event": EVENT.size,
    "nomx_sample_key": SAMPLE_KEY.size,
    "nomx_xsk": _XSK.size,
}
"""Bytes of each struct by its name in C."""


def _total(form: struct.Struct, values: Iterable[bytes]) -> list[int]:
    rows = [form.unpack(value) for value in values]
    return [sum(column) for column in zip(*rows, strict=True)] or [0] * (form.size // 8)
