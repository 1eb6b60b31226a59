"""What tracing found: immutable values with the keys that `nomx trace -j` promises. Made by `nomx.trace.aggregate`.

Counts are of the traced time, times are nanoseconds. *Per packet* is divided by the larger of the
packets received and sent, so that a request and its answer are one.
"""

from __future__ import annotations

from msgspec import Struct

KINDS = ("syscalls", "page_faults", "voluntary_switches", "involuntary_switches", "interrupts", "napi_polls")
"""The kinds of crossings, in the order of every table."""


class Crossings(Struct, frozen=True):
    """Entries of threads into the kernel, and interrupts and polls of their device."""

    syscalls: int = 0
    page_faults: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0
    interrupts: int = 0
    napi_polls: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, kind) for kind in KINDS)

    def __add__(self, other: Crossings) -> Crossings:
        return Crossings(**{kind: getattr(self, kind) + getattr(other, kind) for kind in KINDS})

    def __sub__(self, other: Crossings) -> Crossings:
        return Crossings(**{kind: getattr(self, kind) - getattr(other, kind) for kind in KINDS})


class Times(Struct, frozen=True):
    """Where CPU time went. The first three are the time that threads had a CPU; *device_ns* may be elsewhere."""

    user_ns: int = 0
    """In user space, page faults included."""
    call_ns: int = 0
    """In system calls."""
    stolen_ns: int = 0
    """In interrupt handlers and softirqs that ran in a thread's place, whoever they were for."""
    device_ns: int = 0
    """In NAPI polls of the device, on any CPU; those in a thread's place are in *stolen_ns* too."""

    @property
    def on_cpu_ns(self) -> int:
        return self.user_ns + self.call_ns + self.stolen_ns

    @property
    def kernel_ns(self) -> int:
        """What the kernel spent on packets: system calls, and polls of the device wherever they ran."""
        return self.call_ns + self.device_ns

    def __sub__(self, other: Times) -> Times:
        return Times(*(getattr(self, name) - getattr(other, name) for name in self.__struct_fields__))


class Packets(Struct, frozen=True):
    """Packets of the application, counted outside it."""

    rx: int = 0
    tx: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    """Bytes are 0 where only packets are counted (AF_XDP rings)."""

    @property
    def count(self) -> int:
        return max(self.rx, self.tx)

    def __add__(self, other: Packets) -> Packets:
        return Packets(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))

    def __sub__(self, other: Packets) -> Packets:
        return Packets(*(getattr(self, name) - getattr(other, name) for name in self.__struct_fields__))


class Sample(Struct, frozen=True):
    """One interval, or the whole time."""

    at_s: float
    """When it began, from the start of tracing."""
    seconds: float
    crossings: Crossings
    times: Times
    packets: Packets

    def per_packet(self, quantity: float) -> float | None:
        """Divide by the packets; None where there were none."""
        return quantity / self.packets.count if self.packets.count else None

    def rate(self, quantity: float) -> float:
        """Divide by the time."""
        return quantity / self.seconds if self.seconds else 0.0


class CallLine(Struct, frozen=True):
    """The system calls of one number. *in_progress* are among *count*, and in no time."""

    name: str
    xsk: bool
    """On an AF_XDP socket, without data: a wakeup."""
    count: int
    in_progress: int
    errors: int
    again: int
    """Of the errors, EAGAIN."""
    wall_ns: int
    cpu_ns: int
    wall_log2_ns: tuple[int, ...]
    """[i]: how many took 2**i to 2**(i+1) ns, the last one and all above."""


class ThreadLine(Struct, frozen=True):
    """One thread. Interrupts and polls belong to devices, so they are 0 here."""

    tid: int
    tgid: int
    name: str
    alive: bool
    cpu: int
    crossings: Crossings
    times: Times
    kernel_faults: int
    """Page faults taken inside a system call: no crossing."""
    major_faults: int
    migrations: int


class CpuLine(Struct, frozen=True):
    """What happened on one CPU."""

    cpu: int
    crossings: Crossings
    device_ns: int
    own_polls: int
    """Polls of the device in the place of the application's own threads."""
    own_time_ns: int
    """CPU time of threads that were last seen on this CPU."""


class FunctionLine(Struct, frozen=True):
    """A function of the kernel, by samples of the CPU clock."""

    name: str
    self_samples: int
    """In the function itself."""
    total_samples: int
    """In it or in what it called."""


class StackLine(Struct, frozen=True):
    """A stack, outermost frame first, and how many samples fell on it."""

    frames: tuple[str, ...]
    samples: int


class Device(Struct, frozen=True):
    """A device whose polls and interrupts belong to the target."""

    ifname: str
    ifindex: int
    netns: int
    """Inode number of its network namespace."""
    interrupt_lines: tuple[int, ...] = ()


class DeviceWork(Struct, frozen=True):
    """What the devices did."""

    frames: int = 0
    """Returned by polls as work done."""
    full_polls: int = 0
    """That used up their budget, so there was more to do."""
    own_polls: int = 0
    """In the place of the target's own threads."""
    redirects: int = 0
    redirect_errors: int = 0
    exceptions: int = 0


class Xsk(Struct, frozen=True):
    """An AF_XDP socket as the kernel had it at the end; its counts are of the traced time."""

    inode: int
    tgid: int
    fd: int
    ifindex: int
    queue: int
    zerocopy: bool
    need_wakeup: bool
    """Whether it was bound with XDP_USE_NEED_WAKEUP."""
    tx_budget: int
    """Frames of one transmit call in copy mode; 0 where the kernel has no such limit."""
    rx_entries: int
    tx_entries: int
    fill_available: int
    """Frames in the fill ring now."""
    rx_dropped: int
    rx_ring_full: int
    fill_ring_empty: int
    tx_ring_empty: int
    tx_invalid: int


class Lost(Struct, frozen=True):
    """What there was no room for; 0 in a good trace. The totals of crossings lose nothing but what was *missed*."""

    threads: int = 0
    calls: int = 0
    events: int = 0
    samples: int = 0
    missed: int = 0
    """Runs of a program that the kernel skipped because it was running already."""

    @property
    def any(self) -> bool:
        return any(getattr(self, name) for name in self.__struct_fields__)


class Gap(Struct, frozen=True):
    """What is not measured, and the reason; perhaps what would mend it."""

    what: str
    reason: str
    remedy: str = ""


class Report(Struct, frozen=True):
    """One target, traced."""

    target: str
    """As asked for: a lease, a pid, a command."""
    kind: str
    """`lease`, `process` or `command`."""
    path: str
    """The lease's path; the empty text for what is no lease."""
    packets_at: str
    """Where packets were counted."""
    end: str
    """Why tracing ended."""
    total: Sample
    samples: tuple[Sample, ...]
    calls: tuple[CallLine, ...]
    threads: tuple[ThreadLine, ...]
    cpus: tuple[CpuLine, ...]
    devices: tuple[Device, ...]
    work: DeviceWork
    xsks: tuple[Xsk, ...]
    affinity: str = ""
    """CPUs that the target's threads may run on, in the kernel's list format."""
    functions: tuple[FunctionLine, ...] = ()
    stacks: tuple[StackLine, ...] = ()
    clock_hz: int = 0
    """Frequency of the samples; 0 where none were taken."""
    lost: Lost = Lost()
    gaps: tuple[Gap, ...] = ()
    kernel: str = ""
    host_cpus: int = 0


class Saved(Struct, frozen=True):
    """What `nomx trace -j` prints, and `compare` and `explain` read."""

    reports: tuple[Report, ...]
