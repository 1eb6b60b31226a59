"""What was asked (Spec), what was handed out (Grant), what the journal holds (Record), what is observed (Status).

Four types, never one for two of them: a Spec is the client's wish and may be wrong; a Grant is
what the application gets, numbers and all; a Record is the daemon's memory of it; a Status is read
from the kernel when somebody asks. Quantities carry their unit in their name.
"""

from __future__ import annotations

from msgspec import Struct, field

MAX_QUEUES = 8
"""The most queues one device unit may have: what `steer.bpf.c` reserves in its XSKMAP for a port."""

PATHS = ("kernel", "soft")
"""The paths this daemon hands out, lowest first (the ladder of docs/explanation/paths.md)."""

REQUIREMENTS = ("zerocopy", "native")
"""What `--require` may demand of a device."""


class LeaseSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """What a client asks for. *path* None asks for the highest path that the machine gives."""

    name: str = ""
    path: str | None = None
    require: tuple[str, ...] = ()
    cores: int = 0
    """Exclusive CPUs; 0 means the shared pool."""
    memory_bytes: int | None = None
    """Memory limit of the lease's cgroup, the UMEM included; None means no limit."""
    queues: int = 1
    bandwidth_bps: int | None = None
    """Transmit limit of the device unit, frames without FCS; None means no limit."""
    address: str | None = None
    """An IPv4 address inside the daemon's prefix; None lets the daemon choose."""
    count_crossings: bool = True
    busy_poll: bool = False
    """Let the application's own calls poll the device (SO_PREFER_BUSY_POLL)."""


class RingSizes(Struct, frozen=True, forbid_unknown_fields=True):
    """Descriptors in each ring of one queue; powers of two."""

    rx: int = 2048
    tx: int = 2048
    fill: int = 4096
    completion: int = 2048


class UmemGeometry(Struct, frozen=True, forbid_unknown_fields=True):
    """How a client laid out the memfd that it sends: one equal slice of frames a queue, in queue order."""

    frame_bytes: int = 2048
    frames_per_queue: int = 2048
    headroom_bytes: int = 0
    """Room the application wants in front of each packet, beyond the 256 bytes that XDP keeps."""
    rings: RingSizes = RingSizes()
    huge_pages: bool = False
    """Whether the memfd is of huge pages; each slice then fills whole ones."""

    @property
    def slice_bytes(self) -> int:
        return self.frame_bytes * self.frames_per_queue


class Mode(Struct, frozen=True):
    """What the kernel really gave, read back from it, and why not better."""

    zerocopy: bool
    attach: str
    """XDP `native` or `generic`."""
    need_wakeup: bool
    driver: str
    why: str
    """The reason for copy mode or generic XDP; empty where there is nothing better."""
    busy_poll: bool = False
    """Whether the application's own calls poll the device."""


class DeviceGrant(Struct, frozen=True):
    """One device unit as its application sees it. Descriptor *i* of `xsk_fds` is queue *i*."""

    unit: str
    kind: str
    ifname: str
    mac: str
    ip4: str
    prefix_len: int
    ip6: str
    mtu_bytes: int
    queues: int
    umem: UmemGeometry
    mode: Mode
    tx_budget: int
    """Frames that one transmit call moves (XDP_MAX_TX_SKB_BUDGET)."""
    umem_fd: int = -1
    """Descriptor numbers are those of the process that holds the grant: -1 on the control socket."""
    xsk_fds: tuple[int, ...] = ()


class Verdict(Struct, frozen=True):
    """Whether a path is there, why, and how to mend it."""

    path: str
    available: bool
    reason: str
    remedy: str = ""


class Grant(Struct, frozen=True):
    """What an application holds, complete: the only thing that crosses from control to data.

    The launcher hands it over as JSON in a sealed memfd, whose number is in `NOMX_GRANT`.
    """

    lease: str
    path: str
    cpus: str
    """Exclusive CPUs in the kernel's list format, or those of the shared pool."""
    exclusive: bool
    memory_bytes: int | None
    verdicts: tuple[Verdict, ...] = ()
    """Why not a higher path: one verdict for each path above the one granted."""
    unenforced: tuple[str, ...] = ()
    """What was granted but the kernel does not keep others from, one sentence each."""
    device: DeviceGrant | None = None
    instance: str = ""
    """The daemon that granted it; empty without one."""
    counters_fd: int = -1
    """The memfd of `nomx.api.counters`, -1 when nobody asked for counters."""


class LeaseRecord(Struct, frozen=True):
    """What the journal holds of a lease: enough to undo it without asking anyone."""

    lease: str
    number: int
    """The slot from which every name of the lease's parts is derived; reused after release."""
    spec: LeaseSpec
    path: str
    uid: int
    holder_pid: int
    holder_start: int
    """The holder's start time in clock ticks since boot: with the pid, one process and no other."""
    granted_at_ns: int
    state: str = "granted"
    """`granting`, `granted`, `ending` or `ended`."""


class Crossings(Struct, frozen=True):
    """Kernel crossings of a lease's threads and device, counted from outside by eBPF."""

    syscalls: int = 0
    page_faults: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0
    napi_polls: int = 0


class Traffic(Struct, frozen=True):
    """Packets of a lease, counted from outside the application, and the frames that were dropped, by reason."""

    rx_packets: int = 0
    tx_packets: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    counted_at: str = ""
    """`xsk` (frames into its rings, frames into the switch) or `socket` (cgroup_skb)."""
    drops: dict[str, int] = field(default_factory=dict)


class LeaseStatus(Struct, frozen=True):
    """What is observed of a lease now, or was when it ended."""

    record: LeaseRecord
    state: str
    cpus: str
    exclusive: bool
    memory_limit_bytes: int | None
    memory_used_bytes: int | None
    device: DeviceGrant | None
    traffic: Traffic
    crossings: Crossings | None
    """None where nothing counts them; *uncounted* says why."""
    uncounted: str = ""
    oom_kills: int = 0
    pids: tuple[int, ...] = ()
    seconds: float = 0.0
    end_reason: str = ""
    unenforced: tuple[str, ...] = ()
    """As in the Grant, observed now."""


class DeviceUnit(Struct, frozen=True):
    """One line of `nomx device list`: a unit that exists or could be made."""

    unit: str
    kind: str
    """`soft`, `host` (the host's own port), `station` (a namespace plugged in)."""
    ifname: str
    mac: str
    ip4: str
    holder: str
    """A lease, `host`, or the empty text where it is free."""
    rx_packets: int = 0
    tx_packets: int = 0
    drops: dict[str, int] = field(default_factory=dict)
