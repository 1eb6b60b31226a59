"""Frames without handlers: the granted device as NumPy batches over the UMEM, or one frame at a time as bytes.

A loop over batches is:

    with nomx.open_device() as device:
        while device.wait():
            batch = device.rx_burst(256)
            packets = device.packets  # (frames, room) uint8, over the UMEM: no copy
            swap_addresses(packets, batch.index)
            device.tx_burst(batch)

A batch that the device does not take whole is the application's to send again or to `give` back.
"""

from __future__ import annotations

import numpy as np

from nomx.app import grant as grants
from nomx.device.base import Batch, Device
from nomx.device.xsk import XskDevice
from nomx.errors import InvalidRequest, NotSupported


def open_device(queue_id: int = 0) -> XskDevice:
    """Open one queue of the granted device unit. Once in a lease's life: serve and this exclude each other.

    Raises: NotSupported: no device was granted (the kernel path has none). InvalidRequest: no such
        queue, or it was opened before.
    """
    grant = grants.load()
    if grant is None or grant.device is None:
        path = "kernel" if grant is None else grant.path
        unleased = "; this process was not started by nomx" if grant is None else ""
        raise NotSupported(
            feature="a device of frames",
            missing=f"the {path} path has sockets only{unleased}",
            remedy="start the application with `nomx run --path soft`",
        )
    return XskDevice(grant.device, queue_id, grant.lease)


def recv_frame(device: Device, timeout_s: float | None = None) -> bytes | None:
    """Receive one Ethernet frame, without FCS; None when none came in time (None: wait for ever)."""
    batch = device.rx_burst(1)
    if not len(batch) and device.wait(timeout_s):
        batch = device.rx_burst(1)
    for frame, length in batch:
        data = device.packets[frame, :length].tobytes()
        device.give(batch.index)
        return data
    return None


def send_frame(device: Device, data: bytes) -> bool:
    """Send one Ethernet frame, without FCS; False when the device has no frame or no room for it now.

    Raises: InvalidRequest: longer than a frame has room.
    """
    room = device.packets.shape[1]
    if len(data) > room:
        raise InvalidRequest(field="frame", value=f"{len(data)} bytes", expected=f"at most {room}")
    index = device.take(1)
    if len(index) == 0:
        return False
    device.packets[index[0], : len(data)] = np.frombuffer(data, np.uint8)
    try:
        sent = device.tx_burst(Batch(index, np.array([len(data)])))
    except InvalidRequest:
        device.give(index)
        raise
    if sent == 0:
        device.give(index)
    return sent == 1
