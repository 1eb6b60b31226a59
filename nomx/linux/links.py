"""Network interfaces by rtnetlink (pyroute2): veth pairs, addresses, XDP attachments. One object a network namespace.

Every failure is an OSError that names the operation and the interface. pyroute2 runs an event loop
inside each call, so these may not be called from a thread that runs one itself; and it opens another
socket, in whatever namespace that one is in, for each further thread, so a `Links` has one thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from nomx.linux import netns

_XDP_DRV_MODE = 1 << 2
_XDP_SKB_MODE = 1 << 1
_IFA_F_NODAD = 0x02


@dataclass(frozen=True)
class Far:
    """The far end of a veth pair: its name, its MAC (None: the kernel's choice), and, elsewhere, its namespace."""

    ifname: str
    mac: str | None = None
    netns_fd: int | None = None


class Links:
    """The interfaces of one network namespace. A context manager; closing it changes nothing in the kernel."""

    def __init__(self, namespace: Path | int) -> None:
        """Open the namespace (its path or a descriptor of it)."""
        self._netns = namespace if isinstance(namespace, int) else os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        self._owned = namespace is not self._netns
        with netns.inside(self._netns):
            self._socket: Any = IPRoute()
        self._thread = threading.get_ident()

    @property
    def _route(self) -> Any:
        if threading.get_ident() != self._thread:
            raise RuntimeError("this Links belongs to another thread; open one in this thread")
        return self._socket

    def close(self) -> None:
        self._route.close()
        if self._owned:
            os.close(self._netns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be in this namespace for a while."""
        with netns.inside(self._netns):
            yield

    def index(self, ifname: str) -> int | None:
        """Return the interface's index, None where there is no such interface."""
        try:
            with self.inside():
                return socket.if_nametoindex(ifname)
        except OSError:
            return None

    def require(self, ifname: str) -> int:
        """Return the interface's index. Raises: OSError (ENODEV): there is no such interface."""
        if (index := self.index(ifname)) is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), ifname)
        return index

    def names(self) -> list[str]:
        """Return the names of all interfaces."""
        with self.inside():
            return [name for _, name in socket.if_nameindex()]

    def add_veth(self, near: str, far: Far, *, queues: int, mtu_bytes: int) -> int:
        """Make a veth pair, both ends down, with *queues* queues each way; the near end's index.

        XDP wants as many receive queues as the peer has transmit queues, so both have the same.
        """
        both = {"num_tx_queues": queues, "num_rx_queues": queues, "mtu": mtu_bytes}
        peer: dict[str, Any] = {"ifname": far.ifname, **both}
        if far.mac is not None:
            peer["address"] = far.mac
        if far.netns_fd is not None:
            peer["net_ns_fd"] = far.netns_fd
        with _named(f"add veth {near} {far.ifname}"):
            self._route.link("add", ifname=near, kind="veth", peer=peer, **both)
        return self.require(near)

    def delete(self, ifname: str) -> bool:
        """Delete an interface (a veth with its peer); whether it was there."""
        index = self.index(ifname)
        if index is None:
            return False
        try:
            with _named(f"delete {ifname}"):
                self._route.link("del", index=index)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return False
        return True

    def set_up(self, index: int) -> None:
        """Bring an interface up."""
        with _named(f"set {index} up"):
            self._route.link("set", index=index, state="up")

    def add_address(self, index: int, address: str, prefix_len: int) -> None:
        """Give an interface an IPv4 or IPv6 address; IPv6 without duplicate detection: nobody else can have it."""
        family = {"family": socket.AF_INET6, "flags": _IFA_F_NODAD} if ":" in address else {"family": socket.AF_INET}
        with _named(f"add address {address}/{prefix_len}"):
            self._route.addr("add", index=index, address=address, prefixlen=prefix_len, **family)

    def attach_xdp(self, index: int, program_fd: int, *, generic: bool = False) -> None:
        """Attach an XDP program, in native mode unless *generic*. It stays when this process ends."""
        flags = _XDP_SKB_MODE if generic else _XDP_DRV_MODE
        with _named(f"attach XDP to {index}"):
            self._route.link("set", index=index, xdp_fd=program_fd, xdp_flags=flags)

    def xdp_program_id(self, ifname: str) -> int | None:
        """Return the kernel id of the XDP program attached to an interface, None where there is none."""
        with _named(f"get {ifname}"):
            (link,) = self._route.link("get", index=self.require(ifname))
        program_id: int | None = link.get_nested("IFLA_XDP", "IFLA_XDP_PROG_ID")
        return program_id

    def addresses(self) -> list[str]:
        """Return every IPv4 address of the namespace, with its prefix length, as `10.0.0.1/8`."""
        with _named("list addresses"):
            found = self._route.get_addr(family=socket.AF_INET)
            return [f"{each.get('address')}/{each['prefixlen']}" for each in found]


@contextlib.contextmanager
def _named(operation: str) -> Iterator[None]:
    """Turn pyroute2's error into an OSError that names the operation."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, f"{operation}: {os.strerror(error.code)}") from error
