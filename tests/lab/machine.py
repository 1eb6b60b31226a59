"""The guest's hardware: what a Topology asks for, as a QEMU command line.

hub 1:  igb PF (and up to 7 VFs, switched inside the emulated card)  --  peer1 (e1000e)
hub 2:  virtio-net PF, its VFs                                        --  peer2 (e1000e)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.packages import Kernel


@dataclass(frozen=True)
class Topology:
    """What the guest is made of.

    *dma_translated* is virtio's iommu_platform: without it the kernel refuses zero-copy on a VF,
    which is the negative control.
    """

    cpus: int = 2
    memory_mib: int = 1536
    iommu: bool = True
    dma_translated: bool = True
    virtio_vfs: int = 2
    numa: bool = False
    """Two nodes, the SR-IOV NICs on the second."""
    kernel: str = "backports"


@dataclass(frozen=True)
class Files:
    """What QEMU opens: the initial RAM disk, the folder shared as /run/lab, and the agent's socket."""

    initrd: Path
    share: Path
    agent: Path


ACCELERATIONS = {
    "kvm": ("-accel", "kvm,kernel-irqchip=split", "-cpu", "host"),
    "tcg": ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"),
}


def accelerations() -> list[str]:
    """What may run the guest here, quickest first; software emulation is always there."""
    return ["kvm", "tcg"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else ["tcg"]


def arguments(topology: Topology, kernel: Kernel, files: Files, qemu_root: Path, acceleration: str) -> list[str]:
    """The arguments of qemu-system-x86_64."""
    return [
        *("-L", str(qemu_root / "usr/share/qemu"), "-L", str(qemu_root / "usr/share/seabios")),
        *("-M", "q35", *ACCELERATIONS[acceleration], "-smp", str(topology.cpus), "-m", str(topology.memory_mib)),
        *("-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(kernel.image), "-initrd", str(files.initrd), "-append", _command_line(topology)),
        *_shares(kernel, files, qemu_root),
        *_agent(files),
        *_nodes(topology),
        *_iommu(topology),
        *_igb(topology),
        *_virtio(topology),
    ]


def _command_line(topology: Topology) -> str:
    words = "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr tsc=reliable"
    return f"{words} intel_iommu=on iommu=nopt" if topology.iommu else words


def _shares(kernel: Kernel, files: Files, tools: Path) -> Iterator[str]:
    shares = {"hostfs": Path("/"), "lab": files.share, "modules": kernel.modules, "tools": tools}
    for tag, path in shares.items():
        yield from ("-virtfs", f"local,path={path},mount_tag={tag},security_model=none,readonly=on,multidevs=remap")


def _agent(files: Files) -> Iterator[str]:
    yield from ("-device", "virtio-serial-pci,disable-legacy=on")
    yield from ("-chardev", f"socket,id=agent,path={files.agent},server=on,wait=off")
    yield from ("-device", "virtserialport,chardev=agent,name=nomx.lab")


def _nodes(topology: Topology) -> Iterator[str]:
    if not topology.numa:
        return
    half_mib, half_cpus = topology.memory_mib // 2, topology.cpus // 2
    for node, cpus in ((0, f"0-{half_cpus - 1}"), (1, f"{half_cpus}-{topology.cpus - 1}")):
        yield from ("-object", f"memory-backend-ram,id=m{node},size={half_mib}M")
        yield from ("-numa", f"node,nodeid={node},cpus={cpus},memdev=m{node}")
    yield from ("-device", "pxb-pcie,id=pxb1,bus=pcie.0,bus_nr=32,numa_node=1")


def _bus(topology: Topology) -> str:
    return "pxb1" if topology.numa else "pcie.0"


def _iommu(topology: Topology) -> Iterator[str]:
    if topology.iommu:
        yield from ("-device", "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on")


def _igb(topology: Topology) -> Iterator[str]:
    yield from ("-device", f"pcie-root-port,id=rp1,bus={_bus(topology)},chassis=1,slot=1")
    yield from ("-netdev", "hubport,id=igb,hubid=1")
    yield from ("-device", "igb,bus=rp1,netdev=igb,romfile=,mac=52:54:00:16:b0:00")
    yield from _peer(1)


def _virtio(topology: Topology) -> Iterator[str]:
    options = "romfile=,disable-legacy=on"
    options += ",iommu_platform=on" if topology.dma_translated else ",iommu_platform=off"
    options += ",ats=on" if topology.iommu else ""
    yield from ("-device", f"pcie-root-port,id=rp2,bus={_bus(topology)},chassis=2,slot=2")
    # VFs before their PF: QEMU wants function 0 last
    for function in range(topology.virtio_vfs, -1, -1):
        role = "id=vpf" if function == 0 else "sriov-pf=vpf"
        device = f"virtio-net-pci,bus=rp2,addr=0x0.{function:#x},netdev=v{function},{role}"
        yield from ("-netdev", f"hubport,id=v{function},hubid=2")
        yield from ("-device", f"{device},mac=52:54:00:50:f0:{function:02x},{options}")
    yield from _peer(2)


def _peer(hub: int) -> Iterator[str]:
    yield from ("-device", f"pcie-root-port,id=rp{hub + 2},chassis={hub + 2},slot={hub + 2}")
    yield from ("-netdev", f"hubport,id=p{hub},hubid={hub}")
    yield from ("-device", f"e1000e,romfile=,bus=rp{hub + 2},netdev=p{hub},mac=52:54:00:99:00:{hub:02x}")
