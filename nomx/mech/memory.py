"""Memory of a lease's group, under cgroup v1 and v2: limit, use, and how often the kernel killed for want of it.

Stands between `nomx.mech.cgroup`, which applies actions, and the memory files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from nomx.linux import cgroupfs

_V1_NO_LIMIT_BYTES = 1 << 62
"""v1 has no word for "no limit", only a number beyond all memory, which depends on the page size."""


class Memory(Protocol):
    """The memory controller of one cgroup version. Every method raises OSError naming the file."""

    def limit(self, directory: Path, bytes_: int) -> None:
        """Limit what the group's processes and their memfds hold, swap included, to *bytes_*."""

    def limit_bytes(self, directory: Path) -> int | None:
        """Return the limit in force, rounded by the kernel to pages; None without one."""

    def used_bytes(self, directory: Path) -> int:
        """Return what the group holds now, page cache included."""

    def oom_kills(self, directory: Path) -> int:
        """Return how many of the group's processes the kernel has killed because of the limit."""


class MemoryV1:
    """The v1 controller."""

    def limit(self, directory: Path, bytes_: int) -> None:
        cgroupfs.write(directory / "memory.limit_in_bytes", str(bytes_))
        with_swap = directory / "memory.memsw.limit_in_bytes"
        if with_swap.exists():  # where the kernel accounts swap; else pages of the group could leave for it
            cgroupfs.write(with_swap, str(bytes_))

    def limit_bytes(self, directory: Path) -> int | None:
        limit = int(cgroupfs.read(directory / "memory.limit_in_bytes"))
        return limit if limit < _V1_NO_LIMIT_BYTES else None

    def used_bytes(self, directory: Path) -> int:
        return int(cgroupfs.read(directory / "memory.usage_in_bytes"))

    def oom_kills(self, directory: Path) -> int:
        return cgroupfs.read_keyed(directory / "memory.oom_control")["oom_kill"]


class MemoryV2:
    """The v2 controller."""

    def limit(self, directory: Path, bytes_: int) -> None:
        cgroupfs.write(directory / "memory.max", str(bytes_))
        swap = directory / "memory.swap.max"
        if swap.exists():
            cgroupfs.write(swap, "0")

    def limit_bytes(self, directory: Path) -> int | None:
        limit = cgroupfs.read(directory / "memory.max")
        return None if limit == "max" else int(limit)

    def used_bytes(self, directory: Path) -> int:
        return int(cgroupfs.read(directory / "memory.current"))

    def oom_kills(self, directory: Path) -> int:
        return cgroupfs.read_keyed(directory / "memory.events")["oom_kill"]


def memory(controller: cgroupfs.Controller) -> Memory:
    """Return the interface to the memory *controller* that this host has."""
    return MemoryV1() if controller.version == 1 else MemoryV2()
