"""UDP echo as most Python programs do it: `udp_echo.py sockets|asyncio ADDRESS PORT`; says "ready" when it is bound."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import cast

RECEIVE_BUFFER = 1 << 22
SO_RCVBUFFORCE = 33


def bound(address: str, port: int) -> socket.socket:
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    own.bind((address, port))
    print("ready", flush=True)
    return own


def over_sockets(own: socket.socket) -> None:
    while True:
        data, peer = own.recvfrom(2048)
        own.sendto(data, peer)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # its base class before Python 3.12 is another

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        self.transport.sendto(data, peer)


async def over_asyncio(own: socket.socket) -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(Echo, sock=own)
    await asyncio.Event().wait()


if __name__ == "__main__":
    kind, address, port = sys.argv[1:]
    server = bound(address, int(port))
    if kind == "asyncio":
        asyncio.run(over_asyncio(server))
    else:
        over_sockets(server)
