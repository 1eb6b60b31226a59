"""Tell systemd, or whoever set NOTIFY_SOCKET, that the daemon is ready. One datagram; nothing where nobody listens."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send *state*, such as `READY=1`.

    Source: sd_notify(3).
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        # A leading @ stands for the zero byte of an abstract address.
        sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
