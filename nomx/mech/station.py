"""Stations: network namespaces joined to the switch as hosts, the machine's own (`nomx0`) among them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from nomx.alloc.actions import PlugPort
from nomx.linux import ethtool
from nomx.linux.links import Far, Links
from nomx.mech.mechanism import explained
from nomx.mech.switch import Switch

_log = logging.getLogger("nomx.mech.station")

_HINT = "is the interface name or the address taken in that namespace? see `ip addr` there"
_IP6_PREFIX_LEN = 64


class Station:
    """The mechanism of PlugPort."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def apply(self, action: PlugPort) -> None:
        links = self._switch.links
        with explained(f"plug {action.ifname} into the switch", _HINT):
            namespace = os.open(action.netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                far = Far(action.ifname, mac=action.mac, netns_fd=namespace)
                near = links.add_veth(action.switch_ifname, far, queues=1, mtu_bytes=action.mtu_bytes)
                self._set_up_far_end(action, namespace)
            finally:
                os.close(namespace)
            links.attach_xdp(near, self._switch.switch_fd)
            self._switch.admit(near, action.port, action.mac, action.ip4, action.ip6, guarded=False, rate_bps=None)
            links.set_up(near)

    def _set_up_far_end(self, action: PlugPort, namespace: int) -> None:
        with Links(namespace) as there:
            index = there.require(action.ifname)
            with there.inside():
                # Nobody behind the switch finishes what a stack leaves to its device: checksums
                # would arrive unfinished, and segments of up to 64 KB in one frame.
                for offload in ethtool.Offload:
                    ethtool.set_offload(action.ifname, offload, on=False)
                ipv6 = _has_ipv6(action.ifname)
            there.attach_xdp(index, self._switch.pass_fd)
            there.set_up(index)
            there.add_address(index, action.ip4, action.prefix_len)
            if ipv6:
                there.add_address(index, action.ip6, _IP6_PREFIX_LEN)
            else:
                _log.info("no IPv6 address for interface=%s: IPv6 is switched off in its namespace", action.ifname)

    def undo(self, action: PlugPort) -> None:
        links = self._switch.links
        with explained(f"unplug {action.ifname} from the switch", _HINT):
            self._switch.expel(links.index(action.switch_ifname), action.mac)
            links.delete(action.switch_ifname)

    def exists(self, action: PlugPort) -> bool:
        """Return whether the veth pair is there: it goes with the namespace that was plugged in."""
        return self._switch.links.index(action.switch_ifname) is not None


def _has_ipv6(ifname: str) -> bool:
    """Return whether an interface of the calling thread's namespace may have IPv6: many hosts switch it off."""
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6").read_text() == "0\n"
    except FileNotFoundError:
        return False
