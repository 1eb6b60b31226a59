"""A plan: what will be done for a request, in order, and what the requester will be told."""

from __future__ import annotations

from dataclasses import dataclass

from nomx.alloc.actions import Action, CountCrossings, JoinGroup, MakeGroup, MakePort, PlugPort, SetCpus
from nomx.api.lease import LeaseRecord, Verdict


@dataclass(frozen=True)
class Plan:
    """The steps to a lease, and one verdict for each path above its own that was passed over."""

    record: LeaseRecord
    """What the journal will hold, in state `granting`."""
    actions: tuple[Action, ...]
    verdicts: tuple[Verdict, ...] = ()

    @property
    def path(self) -> str:
        return self.record.path

    @property
    def owned(self) -> tuple[Action, ...]:
        """The steps that the lease's end undoes; the others move what other leases hold."""
        return tuple(action for action in self.actions if not isinstance(action, SetCpus))


def describe(action: Action) -> str:
    """Say in one line what an action does, for a person who asked for a dry run."""
    match action:
        case MakeGroup():
            cores = f"{'exclusive' if action.exclusive else 'shared'} CPUs {action.cpus}"
            memory = f"{action.memory_bytes} bytes of memory" if action.memory_bytes else "no memory limit"
            return f"make cgroup {action.instance}.{action.group} with {cores} and {memory}"
        case SetCpus():
            return f"move cgroup {action.instance}.{action.group} from CPUs {action.before} to {action.cpus}"
        case JoinGroup():
            return f"move process {action.pid} into cgroup {action.instance}.{action.group}"
        case MakePort():
            rate = f", at most {action.bandwidth_bps} bit/s" if action.bandwidth_bps else ""
            return f"make soft VF {action.ifname} ({action.mac}, {action.ip4}/{action.prefix_len}){rate}"
        case PlugPort():
            return f"plug {action.ifname} ({action.mac}, {action.ip4}/{action.prefix_len}) into the switch"
        case CountCrossings():
            return f"count the kernel crossings of cgroup {action.instance}.{action.group}"
        case _:
            return repr(action)
