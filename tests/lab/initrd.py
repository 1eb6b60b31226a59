"""Builds the guest's initial RAM disk: busybox, the modules for a 9p root, and an init that switches into it.

Written here as the newc cpio format it is, so that the host needs neither cpio nor a chroot.
"""

from __future__ import annotations

import gzip
import lzma
import stat
from collections.abc import Iterator
from pathlib import Path

from tests.lab.packages import Cache, Kernel

ROOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")

REACHED = "LAB-INITRD"
"""What the console shows first: the guest's CPU runs."""

INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs d /dev; echo LAB-INITRD > /dev/console; $B mount -t proc p /proc; $B mount -t sysfs s /sys
for m in $($B cat /modules/order); do $B insmod /modules/$m || echo "insmod $m failed"; done
O=trans=virtio,version=9p2000.L,msize=512000
$B mkdir -p /lower /upper /root /boot
$B mount -t 9p -o $O,ro,cache=loose hostfs /lower || { echo LAB-NO-ROOT; $B poweroff -f; }
$B mount -t tmpfs -o size=1g t /upper; $B mkdir -p /upper/data /upper/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work o /root
for d in proc sys dev run; do $B mkdir -p /root/$d; done
for d in dev proc sys; do $B mount --move /$d /root/$d; done
$B mount -t tmpfs t /root/run
for share in lab modules tools; do
    $B mkdir -p /root/run/$share
    $B mount -t 9p -o $O,ro,cache=loose $share /root/run/$share || { echo LAB-NO-SHARE $share; $B poweroff -f; }
done
exec $B switch_root /root /bin/bash /run/lab/init.sh
"""


def build(cache: Cache, kernel: Kernel) -> bytes:
    """Return the compressed archive for *kernel*."""
    order = list(_load_order(kernel))
    files: list[tuple[str, int, bytes]] = [
        (name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "dev", "proc", "sys", "modules")
    ]
    files += [("bin/busybox", stat.S_IFREG | 0o755, cache.busybox()), ("init", stat.S_IFREG | 0o755, INIT.encode())]
    files += [(f"modules/{path.name.removesuffix('.xz')}", stat.S_IFREG | 0o644, _module(path)) for path in order]
    names = "\n".join(path.name.removesuffix(".xz") for path in order)
    files.append(("modules/order", stat.S_IFREG | 0o644, names.encode()))
    return gzip.compress(b"".join(_newc(files)), compresslevel=1)


def _load_order(kernel: Kernel) -> Iterator[Path]:
    """Yield the module files that ROOT_MODULES need, each after what it depends on; built-in ones are not there."""
    depends: dict[str, list[str]] = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        module, needs = line.split(":")
        depends[_name(module)] = [module, *reversed(needs.split())]
    done: set[str] = set()
    for wanted in ROOT_MODULES:
        module, *needs = depends.get(wanted, [""])
        for path in filter(None, [*needs, module]):
            if path not in done:
                done.add(path)
                yield kernel.modules / path


def _name(path: str) -> str:
    return Path(path).name.split(".")[0]


def _module(path: Path) -> bytes:
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def _newc(files: list[tuple[str, int, bytes]]) -> Iterator[bytes]:
    """Source: Documentation/driver-api/early-userspace/buffer-format.rst."""
    for inode, (name, mode, content) in enumerate([*files, ("TRAILER!!!", 0, b"")], start=1):
        encoded = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        yield header + bytes(-len(header) % 4)
        yield content + bytes(-len(content) % 4)
