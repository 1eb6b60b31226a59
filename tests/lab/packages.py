"""Fetches what the lab boots: QEMU and guest kernels from Debian's packages, unpacked into a cache, never installed.

A private apt state resolves the closure, so neither root nor the host's package database is
touched; no maintainer script runs. The cache is keyed on the versions, so a second lab starts
without the network. Where the host's apt knows no Debian mirror, set NOMX_LAB_MIRROR to one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITES = ("trixie", "trixie-backports")
QEMU_PACKAGES = (
    "qemu-system-x86/trixie-backports",
    "qemu-system-common/trixie-backports",
    "qemu-system-data/trixie-backports",
    "seabios/trixie-backports",
    "ipxe-qemu",
)
"""SR-IOV emulation of virtio-net needs a QEMU newer than trixie's own."""
TOOL_PACKAGES = ("busybox-static", "kmod")
KERNELS = {"backports": "trixie-backports", "trixie": "trixie"}
"""The guest kernels: the newest backport, and trixie's own (which refuses zero-copy on a virtio VF)."""
SPACE_NEEDED_BYTES = 2 << 30
DOWNLOAD_TIMEOUT_S = 240


class LabUnavailable(Exception):
    """The lab cannot be had here; the message says why and what would mend it."""


@dataclass(frozen=True)
class Kernel:
    """A guest kernel: its *release* as uname gives it, its image, and the folder that is its /lib/modules/RELEASE."""

    release: str
    image: Path
    modules: Path


@dataclass(frozen=True)
class Cache:
    """The unpacked packages under *root*."""

    root: Path

    @property
    def qemu(self) -> Path:
        return self.root / "qemu"

    def busybox(self) -> bytes:
        return (self.qemu / "usr/bin/busybox").read_bytes()

    def command(self, program: str, *arguments: str) -> list[str]:
        """A command line that runs a fetched *program* with its own loader and libraries, wherever it was unpacked."""
        libraries = self.qemu / "usr/lib/x86_64-linux-gnu"
        return [
            str(libraries / "ld-linux-x86-64.so.2"),
            "--library-path",
            str(libraries),
            "--argv0",
            Path(program).name,
            str(self.qemu / program),
            *arguments,
        ]

    def kernel(self, name: str) -> Kernel:
        root = self.root / f"kernel-{name}"
        (modules,) = (root / "usr/lib/modules").iterdir()
        images = [modules / "vmlinuz", *root.glob("boot/vmlinuz-*")]
        return Kernel(modules.name, next(image for image in images if image.exists()), modules)


def cache_dir() -> Path:
    """Where labs are kept: $NOMX_LAB_CACHE, or nomx/lab in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("NOMX_LAB_CACHE") or Path(base) / "nomx" / "lab")


def fetch(kernels: Sequence[str] = ("backports",)) -> Cache:
    """Return a cache that holds QEMU and *kernels*, downloading what is not there yet.

    Raises: LabUnavailable: no apt, no mirror, no network, a package that is gone, or no disk space.
    """
    base = cache_dir()
    base.mkdir(parents=True, exist_ok=True)
    cache = Cache(base)
    missing = [name for name in kernels if not (base / f"kernel-{name}" / ".complete").exists()]
    if (cache.qemu / ".complete").exists() and not missing:
        return cache
    free = shutil.disk_usage(base).free
    if free < SPACE_NEEDED_BYTES:
        raise LabUnavailable(
            f"{base} has {free >> 20} MiB free, the lab needs {SPACE_NEEDED_BYTES >> 20}: "
            "make room, or set NOMX_LAB_CACHE"
        )
    apt = _Apt(base / "apt")
    apt.update()
    if not (cache.qemu / ".complete").exists():
        apt.unpack([*QEMU_PACKAGES, *TOOL_PACKAGES], cache.qemu, closure=True)
    for name in missing:
        _fetch_kernel(apt, cache, name)
    shutil.rmtree(base / "apt")
    return cache


def _fetch_kernel(apt: _Apt, cache: Cache, name: str) -> None:
    root = cache.root / f"kernel-{name}"
    apt.unpack(apt.kernel_packages(KERNELS[name]), root, closure=False)
    if (root / "lib/modules").is_dir():  # packages from before merged /usr
        shutil.copytree(root / "lib/modules", root / "usr/lib/modules", dirs_exist_ok=True)
    kernel = cache.kernel(name)
    depmod = cache.command("usr/bin/kmod", "-b", str(root / "usr"), kernel.release)
    depmod[depmod.index("--argv0") + 1] = "depmod"
    subprocess.run(depmod, check=True, capture_output=True, timeout=DOWNLOAD_TIMEOUT_S)


class _Apt:
    """apt-get with a state of its own."""

    def __init__(self, state: Path) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise LabUnavailable(
                "the lab is made of Debian packages and needs apt-get and dpkg-deb; there are none here"
            )
        self.state = state
        for folder in ("lists/partial", "archives/partial"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        signed = f"[signed-by={KEYRING}]" if KEYRING.exists() else ""
        lines = [f"deb {signed} {_mirror()} {suite} main\n" for suite in SUITES]
        (state / "sources.list").write_text("".join(lines))

    def _options(self) -> list[str]:
        settings = {
            "Dir::Etc::sourcelist": self.state / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::Lists": self.state / "lists",
            "Dir::State::status": self.state / "status",
            "Dir::Cache": self.state,
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "APT::Install-Recommends": "false",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "true",
            "Dpkg::Use-Pty": "0",
        }
        return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def _run(self, tool: str, *arguments: str) -> str:
        command = [tool, *self._options(), *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, cwd=self.state / "archives"
            )
        except subprocess.TimeoutExpired:
            raise LabUnavailable(
                f"{tool} {arguments[0]} took over {DOWNLOAD_TIMEOUT_S} s: is the network there?"
            ) from None
        if done.returncode:
            raise LabUnavailable(
                f"{tool} {' '.join(arguments)} failed: {done.stderr.strip().splitlines()[-1:]}; is the network there?"
            )
        return done.stdout

    def update(self) -> None:
        self._run("apt-get", "-qq", "update")

    def kernel_packages(self, suite: str) -> list[str]:
        """The packages of the suite's kernel: image and modules in one, or apart as newer suites have them."""
        record = self._run("apt-cache", "show", "--no-all-versions", f"linux-image-amd64/{suite}")
        depends = re.search(r"^Depends:.*\blinux-image-([\w.+-]+-amd64)\b", record, re.MULTILINE)
        if depends is None:
            raise LabUnavailable(f"{suite} has no linux-image-amd64 package any more")
        release = depends[1]
        known = self._run("apt-cache", "pkgnames", "linux-").split()
        parts = [f"linux-{part}-{release}" for part in ("binary", "modules")]
        return parts if set(parts) <= set(known) else [f"linux-image-{release}"]

    def unpack(self, packages: Sequence[str], root: Path, *, closure: bool) -> None:
        """Download *packages* (when *closure*, with all they depend on) and replace *root* by what is in them."""
        archives = self.state / "archives"
        for stale in archives.glob("*.deb"):
            stale.unlink()
        if closure:
            self._run("apt-get", "-y", "-qq", "--download-only", "install", *packages)
        else:
            self._run("apt-get", "-qq", "download", *packages)
        part = root.with_name(root.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        # base-files first: it ships the /bin -> usr/bin links that the others unpack through
        for archive in sorted(
            archives.glob("*.deb"), key=lambda deb: (not deb.name.startswith("base-files_"), deb.name)
        ):
            _unpack(archive, part)
        (part / ".complete").write_text(hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest())
        shutil.rmtree(root, ignore_errors=True)
        part.rename(root)


def _unpack(archive: Path, root: Path) -> None:
    excluded = [f"--exclude=./usr/share/{folder}/*" for folder in ("doc", "man", "locale")]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as tar:
        command = ["tar", "x", "-C", str(root), "--keep-directory-symlink", "--no-same-owner", *excluded]
        subprocess.run(command, stdin=tar.stdout, check=True, timeout=DOWNLOAD_TIMEOUT_S)
    if tar.returncode:
        raise LabUnavailable(f"{archive.name} is damaged: dpkg-deb exited {tar.returncode}")


def _mirror() -> str:
    """The Debian mirror that the host's apt uses."""
    if chosen := os.environ.get("NOMX_LAB_MIRROR"):
        return chosen
    folder = Path("/etc/apt")
    for source in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]:
        text = source.read_text(errors="replace") if source.is_file() else ""
        if found := re.search(r"(https?://\S+/debian)/?(?=\s|$)", text):
            return found[1]
    raise LabUnavailable("the host's apt names no Debian mirror; set NOMX_LAB_MIRROR to one")
