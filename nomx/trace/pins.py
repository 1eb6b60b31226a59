"""A cgroup map, pinned while somebody wants it: what filters stock bcc tools (`--cgroupmap`) to a target.

The only thing that tracing ever leaves behind, because it was asked to; `unpin` takes it away.
Source: bcc, docs/special_filtering.md, "Filtering by cgroups".
"""

from __future__ import annotations

import os
from pathlib import Path

from nomx.errors import InvalidRequest, NotSupported
from nomx.linux import bpf
from nomx.trace import gaps
from nomx.trace.target import Target

FOLDER = Path("/sys/fs/bpf")
PREFIX = "nomx-trace-"


def path_of(target: Target) -> Path:
    """Return where the map of *target* is pinned."""
    return FOLDER / f"{PREFIX}{target.label}"


def pin(target: Target) -> Path:
    """Pin a map that has the target's cgroup as its only key; return its path.

    Raises:
        NotSupported: no BPF file system, or the target shares its cgroup with others.
        NotPermitted: a capability is missing.
        InvalidRequest: it is pinned already.
    """
    gaps.check_permitted()
    if not os.path.ismount(FOLDER):
        remedy = f"mount it: mount -t bpf none {FOLDER}"
        raise NotSupported(feature="pinning a map", missing="the BPF file system is not mounted", remedy=remedy)
    if target.group is None:
        missing = f"process {target.label} shares its cgroup with others"
        remedy = "pin a lease, or start the program in a cgroup of its own (systemd-run --scope, nomx run)"
        raise NotSupported(feature="filtering by cgroup", missing=missing, remedy=remedy)
    path = path_of(target)
    if path.exists():
        raise InvalidRequest(field="pin", value=path, expected="a target that is not pinned yet (nomx trace unpin)")
    bpf.pin_cgroup_map(path, target.subject)
    return path


def unpin(label: str) -> bool:
    """Take the pinned map of a target away, by its label; whether it was there."""
    path = FOLDER / f"{PREFIX}{label}"
    if path.parent != FOLDER:
        raise InvalidRequest(field="target", value=label, expected="a lease or a pid")
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
