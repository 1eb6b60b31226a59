"""Soft VFs: a veth pair with the switch at its near end and an application's sockets at its far end."""

from __future__ import annotations

from nomx.alloc.actions import MakePort
from nomx.linux.links import Far
from nomx.mech.mechanism import explained
from nomx.mech.switch import Switch

_HINT = "see `nomx doctor`; more queues than the machine has CPUs is not possible"


class SoftVf:
    """The mechanism of MakePort."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def apply(self, action: MakePort) -> None:
        links = self._switch.links
        with explained(f"make soft VF {action.ifname}", _HINT):
            far = Far(action.ifname, mac=action.mac)
            near = links.add_veth(action.switch_ifname, far, queues=action.queues, mtu_bytes=action.mtu_bytes)
            device = links.require(action.ifname)
            links.attach_xdp(near, self._switch.switch_fd)
            links.attach_xdp(device, self._switch.steer_fd)
            self._switch.steer(device, action.port, action.mac)
            self._switch.admit(
                near,
                action.port,
                action.mac,
                action.ip4,
                action.ip6,
                guarded=True,
                rate_bps=action.bandwidth_bps,
            )
            links.set_up(near)
            links.set_up(device)

    def undo(self, action: MakePort) -> None:
        self.cut_off(action)
        with explained(f"remove soft VF {action.ifname}", _HINT):
            self._switch.links.delete(action.switch_ifname)

    def cut_off(self, action: MakePort) -> None:
        """Do the part of `undo` that takes no time: no frame goes in or out any more, only the interfaces are left."""
        links = self._switch.links
        with explained(f"cut soft VF {action.ifname} off", _HINT):
            self._switch.unsteer(links.index(action.ifname), action.port)
            self._switch.expel(links.index(action.switch_ifname), action.mac)

    def exists(self, action: MakePort) -> bool:
        """Return whether the veth pair is there."""
        return self._switch.links.index(action.ifname) is not None
