"""Binds a device unit to its application's memory: UMEM registered, one XSK a queue, and the mode really got.

After this the daemon is off the path: it sends the descriptors away and closes its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from nomx.alloc.actions import MakePort
from nomx.api.lease import Mode, UmemGeometry
from nomx.errors import InvalidRequest, MechanismError, NotSupported
from nomx.linux import ethtool, memory, xsk
from nomx.linux.xsk import BindFlag, Ring
from nomx.mech.switch import Switch

MIN_FRAME_BYTES = 2048
MAX_RING = 1 << 15
DEFAULT_TX_BUDGET = 32
"""What the kernel moves in one transmit call where it cannot be told (TX_BATCH_SIZE in net/xdp/xsk.c)."""

_REFUSED = {
    "setsockopt XDP_UMEM_REG": "the frame size, the headroom, or the memory lock limit of the daemon (LimitMEMLOCK)",
    "setsockopt XDP_": "the size of that ring",
    "bind": "the queue (does the device have it?) or the mode",
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

    def bind(self, action: MakePort, umem_fd: int, umem: UmemGeometry, require: Sequence[str] = ()) -> Binding:
        """Bind each queue of a soft VF to its slice of the UMEM in *umem_fd*, and steer its frames there.

        Raises: InvalidRequest: a size that AF_XDP does not take, or a memfd too small or not sealed.
            NotSupported: the mode that was required. MechanismError: the kernel refused all the same.
        """
        check_geometry(umem)
        length = umem.slice_bytes * action.queues
        check_memory(umem_fd, length)
        address = memory.map_shared(umem_fd, length)
        fds: list[int] = []
        try:
            with self._switch.links.inside():
                driver = ethtool.driver(action.ifname)
                index = self._switch.links.index(action.ifname)
                if index is None:
                    raise FileNotFoundError(errno.ENOENT, "the soft VF has gone", action.ifname)
                zerocopy = _bind_queues(fds, index, address, action.queues, umem, require, driver)
            budget = _raise_tx_budget(fds, umem.rings.tx)
            for queue, fd in enumerate(fds):
                self._switch.connect(action.port, queue, fd)
        except BaseException as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, OSError):
                raise _explained(action, error) from error
            raise
        finally:
            memory.unmap(address, length)  # the kernel has pinned the pages
        why = "" if zerocopy else f"the {driver} driver has no AF_XDP zero-copy"
        mode = Mode(zerocopy=zerocopy, attach="native", need_wakeup=True, driver=driver, why=why)
        return Binding(mode, tuple(fds), budget)


def check_geometry(umem: UmemGeometry) -> None:
    """Refuse what AF_XDP would refuse with a bare EINVAL.

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
    most = umem.frame_bytes - xsk.PACKET_HEADROOM_BYTES - 64
    _require(0 <= umem.headroom_bytes <= most, "headroom_bytes", umem.headroom_bytes, f"0 to {most}")
    for name in ("rx", "tx", "fill", "completion"):
        size = getattr(umem.rings, name)
        power = 0 < size <= MAX_RING and size & (size - 1) == 0
        _require(power, f"rings.{name}", size, f"a power of two, at most {MAX_RING}")


def check_memory(umem_fd: int, length: int) -> None:
    """Refuse a UMEM that is too small or that its owner could cut short under the kernel.

    Raises: InvalidRequest: naming what is wrong.
    """
    size = os.fstat(umem_fd).st_size
    _require(size >= length, "UMEM", f"{size} bytes", f"at least {length}: frames of every queue")
    sealed = memory.is_sealed_against_shrinking(umem_fd)
    _require(sealed, "UMEM", "a descriptor that can shrink", "a memfd with F_SEAL_SHRINK")


def _require(condition: bool, field: str, value: object, expected: str) -> None:
    if not condition:
        raise InvalidRequest(field=field, value=value, expected=expected)


def _bind_queues(
    fds: list[int], index: int, address: int, queues: int, umem: UmemGeometry, require: Sequence[str], driver: str
) -> bool:
    """Make and bind one XSK a queue, appended to *fds*; whether they are in zero-copy mode."""
    zerocopy = True
    for queue in range(queues):
        slice_address = address + queue * umem.slice_bytes
        fd = _open(slice_address, umem, fds)
        try:
            if not zerocopy:
                raise OSError(errno.EOPNOTSUPP, "the queue before was refused zero-copy")
            xsk.bind(fd, index, queue, BindFlag.ZEROCOPY | BindFlag.USE_NEED_WAKEUP)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            zerocopy = False
            if "zerocopy" in require:
                raise NotSupported(
                    feature="AF_XDP zero-copy",
                    missing=f"the {driver} driver has none",
                    remedy="leave out --require zerocopy, or use a NIC whose driver has it (docs/reference/drivers)",
                ) from error
            xsk.bind(fd, index, queue, BindFlag.COPY | BindFlag.USE_NEED_WAKEUP)
        zerocopy = zerocopy and xsk.is_zerocopy(fd)
    return zerocopy


def _open(address: int, umem: UmemGeometry, fds: list[int]) -> int:
    """Make an XSK over one slice of the UMEM, with its four rings."""
    fd = xsk.open_xsk()
    fds.append(fd)
    xsk.register_umem(fd, address, umem.slice_bytes, umem.frame_bytes, umem.headroom_bytes)
    sizes = {Ring.RX: umem.rings.rx, Ring.TX: umem.rings.tx, Ring.FILL: umem.rings.fill}
    for ring, size in (sizes | {Ring.COMPLETION: umem.rings.completion}).items():
        xsk.set_ring(fd, ring, size)
    return fd


def _raise_tx_budget(fds: Sequence[int], tx_ring: int) -> int:
    """Let one transmit call move as much as the kernel takes; how much that is."""
    budget = max(DEFAULT_TX_BUDGET, min(256, tx_ring))
    try:
        for fd in fds:
            xsk.set_tx_budget(fd, budget)
    except OSError as error:
        if error.errno not in (errno.ENOPROTOOPT, errno.EACCES):
            raise
        return DEFAULT_TX_BUDGET
    return budget


def _explained(action: MakePort, error: OSError) -> MechanismError:
    reason = str(error.strerror)
    wrong = next((what for call, what in _REFUSED.items() if reason.startswith(call)), "")
    hint = f"check {wrong}" if error.errno == errno.EINVAL and wrong else "see `nomx doctor`"
    return MechanismError(operation=f"bind {action.ifname}", reason=reason, hint=hint)
