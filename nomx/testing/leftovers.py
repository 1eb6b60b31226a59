"""What a test session left in the kernel: found by its instances' names, and by a variable its processes inherit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

SESSION = f"t{os.getpid()}"
"""The first part of every instance name of this session."""

TEST_VARIABLE = "NOMX_TEST"
"""Set to SESSION in this process, and so inherited by all that it starts, orphans included."""

CGROUP_ROOT = Path("/sys/fs/cgroup")
_CGROUP_DEPTH = 5


@dataclass(frozen=True)
class Leftovers:
    """Names of what is still there; false when nothing is."""

    processes: tuple[str, ...]
    namespaces: tuple[str, ...]
    links: tuple[str, ...]
    cgroups: tuple[str, ...]
    pins: tuple[str, ...]
    run_directories: tuple[str, ...]
    mounts: tuple[str, ...]

    @classmethod
    def of_session(cls, session: str = SESSION) -> Leftovers:
        """Look for everything whose name begins with *session*, and for processes that inherited it."""
        ours = re.compile(rf"{re.escape(session)}(?!\d)")
        return cls(
            processes=tuple(_processes(session)),
            namespaces=_named(Path("/run/netns"), ours),
            links=_named(Path("/sys/class/net"), ours),
            cgroups=tuple(_cgroups(CGROUP_ROOT, ours, _CGROUP_DEPTH)),
            pins=_named(Path("/sys/fs/bpf"), ours),
            run_directories=_named(Path("/run"), ours),
            mounts=tuple(_mounts(ours)),
        )

    def __sub__(self, before: Leftovers) -> Leftovers:
        """Give what is here and was not there *before*."""
        pairs = {kind.name: (getattr(self, kind.name), getattr(before, kind.name)) for kind in fields(self)}
        return Leftovers(
            **{kind: tuple(name for name in now if name not in then) for kind, (now, then) in pairs.items()}
        )

    def __bool__(self) -> bool:
        return any(getattr(self, kind.name) for kind in fields(self))

    def __str__(self) -> str:
        kinds = ((kind.name.replace("_", " "), getattr(self, kind.name)) for kind in fields(self))
        return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds if names)


def _named(directory: Path, ours: re.Pattern[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(name for name in os.listdir(directory) if ours.match(name)))
    except OSError:
        return ()


def _processes(session: str) -> Iterator[str]:
    """Yield every live process but this one that inherited the session's variable.

    A process of another user whose environment cannot be read cannot be judged, and is passed over;
    a session that starts such processes runs as root.
    """
    mark = f"{TEST_VARIABLE}={session}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                yield f"{entry.name} ({command or 'exiting'})"
        except OSError:
            continue


def _cgroups(directory: Path, ours: re.Pattern[str], depth: int) -> Iterator[str]:
    """Yield the paths of our groups, each once, looking at most *depth* levels down."""
    try:
        children = [entry for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for child in children:
        if ours.match(child.name):
            yield child.path
        elif depth > 1:
            yield from _cgroups(Path(child.path), ours, depth - 1)


def _mounts(ours: re.Pattern[str]) -> Iterator[str]:
    with open("/proc/self/mounts", encoding="ascii", errors="replace") as table:
        for line in table:
            target = line.split()[1]
            if any(ours.match(part) for part in target.split("/")):
                yield target
