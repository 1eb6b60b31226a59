"""The control conversation: one versioned envelope, one struct an operation, a datagram each way.

A call and its reply each fit one SOCK_SEQPACKET datagram of at most MAX_MESSAGE bytes of JSON,
with descriptors beside it (SCM_RIGHTS). A reply carries its call's `id`; nothing else comes on the
socket. A client that sends anything else gets an `Failed` reply with id 0 and is hung up on.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from nomx.api.lease import DeviceGrant, DeviceUnit, Grant, LeaseSpec, LeaseStatus, UmemGeometry, Verdict

PROTOCOL = 1
MAX_MESSAGE = 1 << 16
MAX_FDS = 16


class Operation(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op"):
    """What a client may ask."""


class Hello(Operation, frozen=True, tag="hello"):
    """Who are you? Answered by Welcome."""


class Acquire(Operation, frozen=True, tag="acquire"):
    """A lease for the calling process, which joins its cgroup before the answer. Answered by Granted."""

    spec: LeaseSpec
    dry_run: bool = False
    """Answer with Planned instead, and change nothing."""


class Attach(Operation, frozen=True, tag="attach"):
    """Bind the lease's device unit to the UMEM whose memfd comes with this call (one descriptor).

    Answered by Attached, with one XSK descriptor a queue.
    """

    lease: str
    umem: UmemGeometry


class Release(Operation, frozen=True, tag="release"):
    """End a lease now; its processes are killed when *kill*, else left without their resources. Answered by Done."""

    lease: str
    kill: bool = False


class Leases(Operation, frozen=True, tag="leases"):
    """The status of each live lease, in order of grant. Answered by LeaseList."""

    after: str = ""
    """Continue a long list after this lease."""


class Show(Operation, frozen=True, tag="show"):
    """One lease, live or lately ended. Answered by Shown.

    With *until_ended* the answer comes when the lease has ended.
    """

    lease: str
    until_ended: bool = False


class Devices(Operation, frozen=True, tag="devices"):
    """The device units, by slot. Answered by DeviceList."""

    after: str = ""
    """Continue a long list after this unit."""


class Plug(Operation, frozen=True, tag="plug"):
    """Join a network namespace (its descriptor comes with this call) to the switch, as a host is. Root only.

    Makes the interface *ifname* there, with an address of the prefix. Answered by Plugged.
    """

    ifname: str
    address: str | None = None


class Unplug(Operation, frozen=True, tag="unplug"):
    """Undo a Plug. Answered by Done."""

    unit: str


class Doctor(Operation, frozen=True, tag="doctor"):
    """Which paths does the daemon give? Answered by Verdicts."""


Body = Hello | Acquire | Attach | Release | Leases | Show | Devices | Plug | Unplug | Doctor


class Answer(Struct, frozen=True, tag_field="is"):
    """What the daemon answers."""


class Welcome(Answer, frozen=True, tag="welcome"):
    pid: int
    version: str
    instance: str
    prefix: str
    embedded: bool
    capacity: dict[str, int] = field(default_factory=dict)
    free: dict[str, int] = field(default_factory=dict)


class Granted(Answer, frozen=True, tag="granted"):
    grant: Grant


class Planned(Answer, frozen=True, tag="planned"):
    path: str
    actions: tuple[str, ...]
    verdicts: tuple[Verdict, ...] = ()


class Attached(Answer, frozen=True, tag="attached"):
    device: DeviceGrant


class LeaseList(Answer, frozen=True, tag="leases"):
    leases: tuple[LeaseStatus, ...]
    more: bool = False
    """Ask again *after* the last one."""


class Shown(Answer, frozen=True, tag="shown"):
    status: LeaseStatus


class DeviceList(Answer, frozen=True, tag="devices"):
    units: tuple[DeviceUnit, ...]
    more: bool = False
    """Ask again *after* the last one."""


class Plugged(Answer, frozen=True, tag="plugged"):
    unit: DeviceUnit


class Verdicts(Answer, frozen=True, tag="verdicts"):
    verdicts: tuple[Verdict, ...]


class Done(Answer, frozen=True, tag="done"):
    pass


class Failed(Answer, frozen=True, tag="failed"):
    """A NomxError on its way: *kind* is its class, *fields* its fields."""

    kind: str
    fields: dict[str, Any]


AnswerBody = (
    Welcome | Granted | Planned | Attached | LeaseList | Shown | DeviceList | Plugged | Verdicts | Done | Failed
)


class Call(Struct, frozen=True, forbid_unknown_fields=True):
    """A call's envelope."""

    v: int
    id: int
    body: Body


class Reply(Struct, frozen=True):
    """A reply's envelope."""

    v: int
    id: int
    body: AnswerBody
