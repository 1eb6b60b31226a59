"""CPUs of a lease's group, under cgroup v1 and v2: one interface, and what each version does not enforce.

Stands between `nomx.mech.cgroup`, which applies actions, and the cpuset files.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Protocol

from nomx.linux import cgroupfs
from nomx.types import CpuSet


class Cpuset(Protocol):
    """The cpuset controller of one cgroup version. Every method raises OSError naming the file."""

    def available(self, instance: str) -> CpuSet:
        """Return the CPUs that no cpuset but this instance's own holds exclusively."""

    def give(self, directory: Path, cpus: CpuSet, exclusive: bool) -> None:
        """Confine a new group to *cpus*; when *exclusive*, keep others off them as far as the kernel goes along."""

    def set_cpus(self, directory: Path, cpus: CpuSet) -> None:
        """Change the CPUs of a group; the processes in it are on the new set when this returns."""

    def cpus(self, directory: Path) -> CpuSet:
        """Return the CPUs that the group's processes may really run on."""

    def unenforced(self, directory: Path, exclusive: bool) -> tuple[str, ...]:
        """Return what the kernel does not enforce of this group, observed now, one sentence each."""


class CpusetV1:
    """The v1 controller: exclusive among cpusets, blind to processes that are in none."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def available(self, instance: str) -> CpuSet:
        own = cgroupfs.directory_name(instance, "")
        others = (child for child in self._root.iterdir() if child.is_dir() and not child.name.startswith(own))
        held = (CpuSet.parse(cgroupfs.read(child / "cpuset.cpus")) for child in others if _is_exclusive(child))
        return CpuSet(CpuSet.parse(cgroupfs.read(self._root / "cpuset.effective_cpus")).difference(*held))

    def give(self, directory: Path, cpus: CpuSet, exclusive: bool) -> None:
        # A v1 cpuset takes no process before it has both CPUs and memory nodes.
        cgroupfs.write(directory / "cpuset.mems", cgroupfs.read(self._root / "cpuset.effective_mems"))
        self.set_cpus(directory, cpus)
        if exclusive:
            self._claim(directory)

    def _claim(self, directory: Path) -> None:
        try:
            cgroupfs.write(directory / "cpuset.cpu_exclusive", "1")
        except OSError as error:
            if error.errno != errno.EINVAL:  # a sibling overlaps; `unenforced` then tells it
                raise

    def set_cpus(self, directory: Path, cpus: CpuSet) -> None:
        cgroupfs.write(directory / "cpuset.cpus", str(cpus))

    def cpus(self, directory: Path) -> CpuSet:
        return CpuSet.parse(cgroupfs.read(directory / "cpuset.effective_cpus"))

    def unenforced(self, directory: Path, exclusive: bool) -> tuple[str, ...]:
        if not exclusive:
            return ()
        if not _is_exclusive(directory):
            return ("cores: another cpuset of this host overlaps these CPUs, so its processes may run on them",)
        return ("cores: cgroup v1 keeps other cpusets off these CPUs, but not host processes that are in none",)


def _is_exclusive(directory: Path) -> bool:
    try:
        return cgroupfs.read(directory / "cpuset.cpu_exclusive") == "1"
    except FileNotFoundError:
        return False  # removed since it was listed


class CpusetV2:
    """The v2 controller: a partition `root` really takes its CPUs away from everybody else."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def available(self, instance: str) -> CpuSet:
        # Partitions are out of their parent's effective CPUs; our own are not lost to us.
        pattern = cgroupfs.directory_name(instance, "*")
        own = [self.cpus(child) for child in self._root.glob(pattern) if _is_partition(child)]
        return CpuSet(CpuSet.parse(cgroupfs.read(self._root / "cpuset.cpus.effective")).union(*own))

    def give(self, directory: Path, cpus: CpuSet, exclusive: bool) -> None:
        self.set_cpus(directory, cpus)
        if exclusive and (directory / "cpuset.cpus.partition").exists():
            cgroupfs.write(directory / "cpuset.cpus.partition", "root")
            if not _is_partition(directory):
                # An invalid partition stays confined to its CPUs, but would turn valid unasked.
                cgroupfs.write(directory / "cpuset.cpus.partition", "member")

    def set_cpus(self, directory: Path, cpus: CpuSet) -> None:
        cgroupfs.write(directory / "cpuset.cpus", str(cpus))

    def cpus(self, directory: Path) -> CpuSet:
        return CpuSet.parse(cgroupfs.read(directory / "cpuset.cpus.effective"))

    def unenforced(self, directory: Path, exclusive: bool) -> tuple[str, ...]:
        if not exclusive or _is_partition(directory):
            return ()
        return ("cores: the kernel refused a cpuset partition, so other processes may run on these CPUs",)


def _is_partition(directory: Path) -> bool:
    try:
        return cgroupfs.read(directory / "cpuset.cpus.partition") == "root"
    except FileNotFoundError:
        return False


def cpuset(controller: cgroupfs.Controller) -> Cpuset:
    """Return the interface to the cpuset *controller* that this host has."""
    return CpusetV1(controller.root) if controller.version == 1 else CpusetV2(controller.root)
