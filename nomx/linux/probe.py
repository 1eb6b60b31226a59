"""Feature probes: what this machine gives, found by trying and never by a version; read by doctor, daemon and tests.

Each probe answers with a `Finding` and leaves nothing behind. PROBES names them all; `findings`
runs them in order. None raises: what goes wrong is the finding.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from nomx.linux.probe_bpf import bpf, in_new_namespace, libbpf, tp_btf, veth_xdp
from nomx.types import Finding

_AF_XDP = 44
_BTF = Path("/sys/kernel/btf/vmlinux")
_NET = Path("/sys/class/net")
_IOMMU_GROUPS = Path("/sys/kernel/iommu_groups")
_VFIO = Path("/dev/vfio/vfio")
_MOUNTS = Path("/proc/self/mounts")
_ROOT_REMEDY = "run it as root: sudo nomx daemon, then anyone in its group may use nomx run"

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""Bits of the capability sets. Source: include/uapi/linux/capability.h."""


def root() -> Finding:
    """Are we uid 0?"""
    uid = os.geteuid()
    return Finding("root", available=uid == 0, reason=f"uid {uid}", remedy="" if uid == 0 else _ROOT_REMEDY)


def capabilities() -> Finding:
    """Have we the capabilities that the daemon works with?"""
    status = Path("/proc/self/status").read_text()
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    reason = f"missing {', '.join(missing)}" if missing else f"{', '.join(_CAPABILITIES)}"
    remedy = "run as root, or give the container these capabilities" if missing else ""
    return Finding("capabilities", available=not missing, reason=reason, remedy=remedy)


def btf() -> Finding:
    """Does the kernel describe its own types? The crossing counters are relocated against them."""
    there = _BTF.exists()
    remedy = "" if there else "use a kernel with CONFIG_DEBUG_INFO_BTF; without it crossings are not counted"
    return Finding("btf", available=there, reason=f"{_BTF} {'is there' if there else 'is missing'}", remedy=remedy)


def bpffs() -> Finding:
    """Is the BPF file system mounted? Useful to look at programs with; nomx pins nothing."""
    mounted = any(fields[2] == "bpf" for fields in _mounts())
    remedy = "" if mounted else "mount -t bpf none /sys/fs/bpf, if you want to pin objects; nomx needs it not"
    return Finding("bpffs", available=mounted, reason="mounted" if mounted else "not mounted", remedy=remedy)


def af_xdp() -> Finding:
    """May this process open an AF_XDP socket?"""
    try:
        socket.socket(_AF_XDP, socket.SOCK_RAW, 0).close()
    except OSError as error:
        if error.errno == errno.EPERM:
            remedy = "only the daemon needs it (CAP_NET_RAW): " + _ROOT_REMEDY
            return Finding("af_xdp", available=False, reason="opening one takes CAP_NET_RAW", remedy=remedy)
        reason = f"socket(AF_XDP): {error.strerror}"
        return Finding("af_xdp", available=False, reason=reason, remedy="use a kernel with CONFIG_XDP_SOCKETS")
    return Finding("af_xdp", available=True, reason="an AF_XDP socket opens")


def network_namespaces() -> Finding:
    """May this process make network namespaces?"""
    try:
        in_new_namespace(lambda: None)
    except OSError as error:
        remedy = "run as root; in a container, with CAP_SYS_ADMIN"
        return Finding("netns", available=False, reason=error.strerror or str(error), remedy=remedy)
    return Finding("netns", available=True, reason="a network namespace can be made")


def cgroups() -> Finding:
    """On which cgroup hierarchies are the controllers that leases use?"""
    controllers: dict[str, str] = {}
    unified = False
    for _, mount_point, kind, options, *_ in _mounts():
        if kind == "cgroup":
            controllers.update((name, "v1") for name in options.split(",") if name in ("cpuset", "memory"))
        elif kind == "cgroup2":
            unified = True
            offered = Path(mount_point, "cgroup.controllers").read_text().split()
            controllers.update((name, "v2") for name in ("cpuset", "memory") if name in offered)
    told = [f"{name} on {controllers[name]}" for name in sorted(controllers)]
    told.append("v2 hierarchy mounted" if unified else "no v2 hierarchy mounted (the daemon mounts its own)")
    missing = [name for name in ("cpuset", "memory") if name not in controllers]
    remedy = (
        f"boot with the {' and '.join(missing)} controller enabled; without it there is no such limit"
        if missing
        else ""
    )
    return Finding("cgroups", available=not missing, reason="; ".join(told), remedy=remedy)


def hugepages() -> Finding:
    """Can a memfd be made of huge pages? Tried with one page."""
    try:
        fd = os.memfd_create("nomx-probe", os.MFD_CLOEXEC | os.MFD_HUGETLB)
    except OSError as error:
        return Finding("hugepages", available=False, reason=f"memfd_create(MFD_HUGETLB): {error.strerror}")
    try:
        size_bytes = os.statvfs(f"/proc/self/fd/{fd}").f_bsize
        os.ftruncate(fd, size_bytes)
        with mmap.mmap(fd, size_bytes):
            return Finding("hugepages", available=True, reason=f"pages of {size_bytes >> 20} MiB")
    except OSError as error:
        remedy = "reserve some: sysctl vm.nr_hugepages=64; UMEMs take ordinary pages until then"
        return Finding("hugepages", available=False, reason=f"none free ({error.strerror})", remedy=remedy)
    finally:
        os.close(fd)


def sriov() -> Finding:
    """Has a network device virtual functions to give?"""
    found = []
    for total in sorted(_NET.glob("*/device/sriov_totalvfs")):
        if int(total.read_text()) > 0:
            made = (total.parent / "sriov_numvfs").read_text().strip()
            found.append(f"{total.parent.parent.name} ({made} of {total.read_text().strip()} VFs made)")
    if found:
        return Finding("sriov", available=True, reason=", ".join(found))
    remedy = "use a NIC with SR-IOV, and switch it on in the firmware"
    return Finding("sriov", available=False, reason="no network device here has SR-IOV", remedy=remedy)


def iommu() -> Finding:
    """Is there an IOMMU in use?"""
    groups = len(list(_IOMMU_GROUPS.iterdir())) if _IOMMU_GROUPS.is_dir() else 0
    remedy = "" if groups else "switch VT-d or AMD-Vi on in the firmware, and boot with intel_iommu=on or amd_iommu=on"
    return Finding("iommu", available=groups > 0, reason=f"{groups} IOMMU groups", remedy=remedy)


def vfio() -> Finding:
    """Is the VFIO driver loaded?"""
    there = _VFIO.exists()
    remedy = "" if there else "modprobe vfio-pci"
    return Finding("vfio", available=there, reason=f"{_VFIO} {'is there' if there else 'is missing'}", remedy=remedy)


def _mounts() -> Iterator[list[str]]:
    """Yield the fields of each mount: source, mount point, file system, options."""
    for line in _MOUNTS.read_text(errors="replace").splitlines():
        yield line.split()


PROBES: dict[str, Callable[[], Finding]] = {
    "root": root,
    "capabilities": capabilities,
    "netns": network_namespaces,
    "libbpf": libbpf,
    "bpf": bpf,
    "bpffs": bpffs,
    "btf": btf,
    "tp_btf": tp_btf,
    "af_xdp": af_xdp,
    "veth_xdp": veth_xdp,
    "cgroups": cgroups,
    "hugepages": hugepages,
    "sriov": sriov,
    "iommu": iommu,
    "vfio": vfio,
}
"""Every probe, by the name of its feature."""


def probe(feature: str) -> Finding:
    """Try one feature.

    Raises: KeyError: no probe has that name.
    """
    return PROBES[feature]()


def findings() -> dict[str, Finding]:
    """Try every feature."""
    return {name: PROBES[name]() for name in PROBES}
