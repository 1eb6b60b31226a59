"""All that the daemon needs of Linux, as one interface: the real one, and the fake that unit tests teach.

Stands between the service, which decides nothing about Linux, and `nomx.mech`, which knows nothing
of leases. Every method raises NomxError (MechanismError where Linux refused).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nomx.alloc.actions import Action, CountCrossings, MakeGroup, MakePort
from nomx.alloc.inventory import Capacity
from nomx.api.lease import Crossings, LeaseSpec, Mode, Traffic, UmemGeometry
from nomx.errors import NomxError
from nomx.mech.cgroup import GroupUsage


class Bound(Protocol):
    """A device unit bound to its application's UMEM."""

    @property
    def mode(self) -> Mode:
        """What was really got, read back from the kernel."""

    @property
    def xsk_fds(self) -> Sequence[int]:
        """One socket a queue, in queue order; whoever called `bind` closes them."""

    @property
    def tx_budget(self) -> int:
        """Frames that one transmit call moves."""


class Kernel(Protocol):
    """Linux as the daemon sees it."""

    def capacity(self) -> Capacity:
        """Observe what there is to hand out."""

    def apply(self, action: Action) -> None:
        """Do one step of a plan; where it fails, `undo` of the same step cleans up."""

    def undo(self, action: Action) -> None:
        """Take a step back: whether it was done, half done or never begun, any number of times."""

    def exists(self, action: Action) -> bool:
        """Return whether what the step made is still there."""

    def group(self, action: MakeGroup) -> GroupUsage:
        """Observe a lease's cgroup."""

    def kill(self, action: MakeGroup) -> None:
        """Kill every process in a lease's cgroup."""

    def traffic(self, slot: int) -> Traffic:
        """Return what the switch and the steering program counted at a slot's port."""

    def crossings(self, action: CountCrossings) -> tuple[Crossings, Traffic]:
        """Return a group's crossings, and its packets as counted at its sockets."""

    def bind(self, action: MakePort, umem_fd: int, umem: UmemGeometry, spec: LeaseSpec) -> Bound:
        """Make and bind the sockets of a soft VF over the UMEM in *umem_fd*, in the mode that *spec* asks for.

        Raises: InvalidRequest: a geometry or a memfd that cannot be a UMEM. NotSupported: a mode that was required.
        """

    def is_network_namespace(self, fd: int) -> bool:
        """Return whether a descriptor from a client is what it should be before anything is done with it."""

    def start_time(self, pid: int) -> int | None:
        """Return when a live process was started (ticks since boot); None for one that has ended."""

    def membership(self, pid: int) -> tuple[tuple[str, str], ...]:
        """Return the cgroups of a process."""

    def sweep(self, keep: Sequence[Action]) -> tuple[str, ...]:
        """Remove every kernel object of this instance that no action of *keep* made; return their names."""

    def withdraw_soft(self, reason: NomxError) -> None:
        """Hand out no soft VF from now on, and say why in the verdict."""

    def close(self, *, remove: bool) -> None:
        """Let go of Linux; with *remove*, take away what belongs to the instance as a whole (its switch) too."""
