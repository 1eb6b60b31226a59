"""Binds a device unit to its application's memory: UMEM registered, one XSK a queue, and the mode really got.

After this the daemon is off the path: it sends the descriptors away and closes its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from nomx.alloc.actions import MakePort
from nomx.api.lease import Mode, UmemGeometry
from nomx.errors import InvalidRequest, MechanismError, NotSupported
from nomx.linux import ethtool, memory, xsk
from nomx.linux.xsk import BindFlag, Ring
from nomx.mech.switch import Switch

MIN_FRAME_BYTES = 2048
MAX_RING = 1 << 15
ETHERNET_BYTES = 14
DEFAULT_TX_BUDGET = 32
"""What the kernel moves in one transmit call where it cannot be told (TX_BATCH_SIZE in net/xdp/xsk.c)."""

BUSY_POLL_US = 20
BUSY_POLL_FRAMES = 64
"""For how long, and for how many frames, one call polls the device where the lease asked for it."""

_STAT_BLOCK_BYTES = 512
_HINTS = {
    (errno.EINVAL, "setsockopt XDP_UMEM_REG"): "check the frame size and the headroom",
    (errno.ENOBUFS, "setsockopt XDP_UMEM_REG"): "raise the memory lock limit of the daemon (LimitMEMLOCK)",
    (errno.ENOMEM, "setsockopt XDP_UMEM_REG"): "ask for fewer frames: there is no memory left to pin",
    (errno.EINVAL, "setsockopt XDP_"): "check the size of that ring",
    (errno.EINVAL, "bind"): "check the queue: has the device as many?",
    (errno.EBUSY, "bind"): "another socket is on that queue: is the application attached already?",
}


@dataclass(frozen=True)
class Binding:
    """A bound device unit. Whoever has it closes the descriptors."""

    mode: Mode
    xsk_fds: tuple[int, ...]
    tx_budget: int


class Binder:
    """Makes the XSKs of soft VFs."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def bind(
        self,
        action: MakePort,
        umem_fd: int,
        umem: UmemGeometry,
        require: Sequence[str] = (),
        *,
        busy_poll: bool = False,
    ) -> Binding:
        """Bind each queue of a soft VF to its slice of the UMEM in *umem_fd*, and steer its frames there.

        Raises: InvalidRequest: a size that AF_XDP does not take, or a memfd that cannot be a UMEM.
            NotSupported: the mode that was required. MechanismError: the kernel refused all the same.
        """
        check_geometry(umem, action.mtu_bytes)
        check_memory(umem_fd, umem.slice_bytes, action.queues)
        fds: list[int] = []
        with contextlib.ExitStack() as undo:
            undo.callback(_close_all, fds)
            try:
                mode = self._bind_queues(action, umem_fd, umem, require, fds)
                budget = _raise_tx_budget(fds, umem.rings.tx)
                if busy_poll:
                    for fd in fds:
                        xsk.prefer_busy_poll(fd, BUSY_POLL_US, BUSY_POLL_FRAMES)
                for queue, fd in enumerate(fds):
                    self._switch.connect(action.port, queue, fd)
            except OSError as error:
                raise _explained(action, error) from error
            undo.pop_all()
        return Binding(msgspec.structs.replace(mode, busy_poll=busy_poll), tuple(fds), budget)

    def _bind_queues(
        self, action: MakePort, umem_fd: int, umem: UmemGeometry, require: Sequence[str], fds: list[int]
    ) -> Mode:
        """Make and bind one XSK a queue, appended to *fds*; the mode that all of them have."""
        length = umem.slice_bytes * action.queues
        address = memory.map_shared(umem_fd, length)
        try:
            with self._switch.links.inside():
                index = self._switch.links.require(action.ifname)
                driver = ethtool.driver(action.ifname)
                why = ""
                for queue in range(action.queues):
                    fds.append(fd := xsk.open_xsk())
                    _lay_out(fd, address + queue * umem.slice_bytes, umem)
                    why = why or _bind_zerocopy(fd, index, queue, driver)
                    if why and "zerocopy" in require:
                        remedy = "leave out --require zerocopy, or use a NIC whose driver has it"
                        raise NotSupported(feature="AF_XDP zero-copy", missing=why, remedy=remedy)
                    if why:
                        xsk.bind(fd, index, queue, BindFlag.COPY | BindFlag.USE_NEED_WAKEUP)
        finally:
            memory.unmap(address, length)  # the kernel has pinned the pages
        zerocopy = all(xsk.is_zerocopy(fd) for fd in fds)
        return Mode(zerocopy=zerocopy, attach="native", need_wakeup=True, driver=driver, why=why)


def check_geometry(umem: UmemGeometry, mtu_bytes: int) -> None:
    """Refuse what AF_XDP would refuse with a bare EINVAL, and frames too small for the largest packet.

    Raises: InvalidRequest: naming the field.
    """
    _require(
        umem.frame_bytes in (MIN_FRAME_BYTES, memory.PAGE_BYTES),
        "frame_bytes",
        umem.frame_bytes,
        f"{MIN_FRAME_BYTES} or {memory.PAGE_BYTES} (a power of two, one page at most)",
    )
    _require(
        umem.slice_bytes > 0 and umem.slice_bytes % memory.PAGE_BYTES == 0,
        "frames_per_queue",
        umem.frames_per_queue,
        f"a positive number of frames that fills whole pages of {memory.PAGE_BYTES} bytes",
    )
    most = umem.frame_bytes - xsk.PACKET_HEADROOM_BYTES - ETHERNET_BYTES - mtu_bytes
    expected = f"0 to {most}, so that a packet of {mtu_bytes} bytes fits in a frame"
    _require(0 <= umem.headroom_bytes <= most, "headroom_bytes", umem.headroom_bytes, expected)
    for name in ("rx", "tx", "fill", "completion"):
        size = getattr(umem.rings, name)
        power = 0 < size <= MAX_RING and size & (size - 1) == 0
        _require(power, f"rings.{name}", size, f"a power of two, at most {MAX_RING}")


def check_memory(umem_fd: int, slice_bytes: int, queues: int) -> None:
    """Refuse a UMEM that is too small, that its owner could cut short, or whose pages the daemon would have to make.

    A page is charged to the cgroup of whoever touches it first, and that must be the lease's.
    Raises: InvalidRequest: naming what is wrong.
    """
    found = os.fstat(umem_fd)
    page = found.st_blksize  # of a memfd, the size of its pages
    whole = f"a multiple of {page}, so that each queue's slice begins on a page"
    _require(slice_bytes % page == 0, "UMEM slice", slice_bytes, whole)
    length = slice_bytes * queues
    _require(found.st_size >= length, "UMEM", f"{found.st_size} bytes", f"at least {length}: frames of every queue")
    sealed = memory.is_sealed_against_shrinking(umem_fd)
    _require(sealed, "UMEM", "a descriptor that can shrink", "a memfd with F_SEAL_SHRINK")
    there = found.st_blocks * _STAT_BLOCK_BYTES
    _require(there >= length, "UMEM", f"a memfd with {there} bytes of pages", f"pages for all {length} (fallocate)")


def _require(condition: bool, field: str, value: object, expected: str) -> None:
    if not condition:
        raise InvalidRequest(field=field, value=value, expected=expected)


def _lay_out(fd: int, address: int, umem: UmemGeometry) -> None:
    """Give an XSK one slice of the UMEM, and its four rings."""
    xsk.register_umem(fd, address, umem.slice_bytes, umem.frame_bytes, umem.headroom_bytes)
    sizes = {Ring.RX: umem.rings.rx, Ring.TX: umem.rings.tx, Ring.FILL: umem.rings.fill}
    for ring, size in (sizes | {Ring.COMPLETION: umem.rings.completion}).items():
        xsk.set_ring(fd, ring, size)


def _bind_zerocopy(fd: int, index: int, queue: int, driver: str) -> str:
    """Try zero-copy mode; the empty text where it is bound so, else why the driver would not, and nothing is bound."""
    try:
        xsk.bind(fd, index, queue, BindFlag.ZEROCOPY | BindFlag.USE_NEED_WAKEUP)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return f"the {driver} driver has no AF_XDP zero-copy"
        if error.errno == errno.EINVAL:  # virtio_net without an IOMMU in front of it: seen in 7.3
            return f"the {driver} driver refuses AF_XDP zero-copy on this device"
        raise
    return ""


def _raise_tx_budget(fds: Sequence[int], tx_ring: int) -> int:
    """Let one transmit call move as much as the kernel takes, a whole tx ring; how much that is."""
    budget = max(DEFAULT_TX_BUDGET, tx_ring)
    try:
        for fd in fds:
            xsk.set_tx_budget(fd, budget)
    except OSError as error:
        if error.errno not in (errno.ENOPROTOOPT, errno.EACCES):
            raise
        return DEFAULT_TX_BUDGET
    return budget


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _explained(action: MakePort, error: OSError) -> MechanismError:
    reason = str(error.strerror)
    hints = (hint for (code, call), hint in _HINTS.items() if code == error.errno and reason.startswith(call))
    return MechanismError(operation=f"bind {action.ifname}", reason=reason, hint=next(hints, "see `nomx doctor`"))
