"""The devices whose polls and interrupts belong to a target: found by name in its network namespace."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from nomx.errors import InvalidRequest, NotPermitted
from nomx.linux import netns
from nomx.trace.report import Device

_OWN_NETNS = Path("/proc/self/ns/net")
_NET = Path("/sys/class/net")


def find(ifname: str, namespace: Path) -> Device:
    """Return the device *ifname* of a network namespace.

    Raises: InvalidRequest: there is no such device.
    """
    identity = netns.identity(namespace)
    try:
        with netns.inside(namespace):
            ifindex = socket.if_nametoindex(ifname)
    except OSError as error:
        expected = f"a network device of namespace {namespace} ({error.strerror})"
        raise InvalidRequest(field="device", value=ifname, expected=expected) from error
    return Device(ifname, ifindex, identity, _interrupt_lines(ifname, identity))


def of_index(ifindex: int, namespace: int) -> Device:
    """Return the device that the kernel knows by these numbers; it has a name where this process sees it."""
    name = f"interface {ifindex}"
    if namespace == netns.identity(_OWN_NETNS):
        with contextlib.suppress(OSError):
            name = socket.if_indextoname(ifindex)
    return Device(name, ifindex, namespace, _interrupt_lines(name, namespace))


def devices_of_process(pid: int, asked: tuple[str, ...]) -> tuple[tuple[Device, ...], str]:
    """Return the devices that a process drives or receives from, and why there are none.

    Those that somebody *asked* for; else all but the loopback of a namespace that is not our
    own. Devices of our own, the host's, serve everybody, so there one has to be named.

    Raises:
        InvalidRequest: a device that was asked for is not there, or the process has ended.
        NotPermitted: one was asked for, and we may not look into the process's namespace.
    """
    namespace = Path(f"/proc/{pid}/ns/net")
    try:
        shared = netns.identity(namespace) == netns.identity(_OWN_NETNS)
    except FileNotFoundError:
        raise InvalidRequest(field="pid", value=pid, expected="the pid of a running process") from None
    except PermissionError as error:
        if asked:
            missing, remedy = f"{error} (CAP_SYS_PTRACE)", "run it as root (sudo), or leave --device out"
            raise NotPermitted(operation="looking into its namespace", missing=missing, remedy=remedy) from error
        return (), f"its network namespace may not be looked into: {error} (CAP_SYS_PTRACE)"
    if asked:
        return tuple(find(ifname, namespace) for ifname in asked), ""
    if shared:
        return (), "it shares this network namespace, whose devices serve everybody: name one with --device"
    with netns.inside(namespace):
        found = [name for _, name in socket.if_nameindex() if name != "lo"]
    return tuple(find(ifname, namespace) for ifname in found), "" if found else "its namespace has none"


def _interrupt_lines(ifname: str, namespace: int) -> tuple[int, ...]:
    """Return the interrupt lines of a device: sysfs shows those of this process's own namespace."""
    if namespace != netns.identity(_OWN_NETNS):
        return ()
    device = _NET / ifname / "device"
    for folder in (device / "msi_irqs", device.resolve().parent / "msi_irqs"):
        if folder.is_dir():
            return tuple(sorted(int(line) for line in os.listdir(folder)))
    return ()
