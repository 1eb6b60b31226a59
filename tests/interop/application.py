"""An application process on a real soft VF, started as the launcher starts one, without a daemon: the grant alone."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from nomx.alloc.actions import MakePort, PlugPort
from nomx.api import counters
from nomx.api.lease import DeviceGrant, Grant, UmemGeometry
from nomx.linux import memory, netns
from tests.kernel.conftest import PREFIX_LEN, Wired

STARTS_WITHIN_S = 120.0  # a first compile, on a machine that does other things too
ENDS_WITHIN_S = 20.0


@dataclass
class Application:
    """A Python program with a grant; `counters` and `ended` tell how it fared."""

    process: subprocess.Popen[bytes]
    log: Path
    counters_fd: int
    fds: list[int] = field(default_factory=list)

    def counters(self) -> dict[str, int]:
        """Return the counters that are not 0."""
        totals = counters.totals(os.pread(self.counters_fd, counters.PAGE_BYTES, 0))
        return {name: value for name, value in totals.items() if value}

    def said(self) -> str:
        return self.log.read_text()

    def wait_until_said(self, text: str) -> None:
        """Wait for a line of its log."""
        deadline = time.monotonic() + STARTS_WITHIN_S
        while text not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, f"{text!r} was not said in time:\n{self.said()}"
            time.sleep(0.02)

    def ended(self) -> int:
        """Wait for its own end; its exit code."""
        return self.process.wait(ENDS_WITHIN_S)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; its exit code."""
        self.process.send_signal(number)
        return self.ended()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in self.fds:
            os.close(fd)


def start(
    wired: Wired,
    port: MakePort,
    source: str,
    folder: Path,
    arguments: Sequence[str] = (),
    geometry: UmemGeometry | None = None,
    *,
    busy_poll: bool = False,
) -> Application:
    """Start *source* as the application of *port*, bound to memory of its own; undone with *wired*."""
    umem = geometry or UmemGeometry(frames_per_queue=1024)
    umem_fd = memory.memfd("test-umem", umem.slice_bytes * port.queues)
    os.posix_fallocate(umem_fd, 0, umem.slice_bytes * port.queues)
    binding = wired.binder.bind(port, umem_fd, umem, busy_poll=busy_poll)
    device = DeviceGrant(
        unit="soft1",
        kind="soft",
        ifname=port.ifname,
        mac=port.mac,
        ip4=port.ip4,
        prefix_len=PREFIX_LEN,
        ip6=port.ip6,
        mtu_bytes=port.mtu_bytes,
        queues=port.queues,
        umem=umem,
        mode=binding.mode,
        tx_budget=binding.tx_budget,
        umem_fd=umem_fd,
        xsk_fds=binding.xsk_fds,
    )
    application = _start(folder, source, arguments, device, [umem_fd, *binding.xsk_fds])
    wired.cleanup.callback(application.close)
    return application


def start_on_sockets(folder: Path, source: str, arguments: Sequence[str] = ()) -> Application:
    """Start *source* on the kernel path. The caller closes it."""
    return _start(folder, source, arguments, None, [])


def _start(
    folder: Path, source: str, arguments: Sequence[str], device: DeviceGrant | None, fds: list[int]
) -> Application:
    page = memory.memfd("test-counters", counters.PAGE_BYTES)
    path = "kernel" if device is None else "soft"
    grant = Grant("L1", path, "0", False, None, device=device, counters_fd=page)
    grant_fd = os.memfd_create("test-grant")
    os.write(grant_fd, msgspec.json.encode(grant))
    script, log = _kept(source), folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=os.environ | {"NOMX_GRANT": str(grant_fd), "PYTHONUNBUFFERED": "1"},
            pass_fds=(grant_fd, page, *fds),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    os.close(grant_fd)
    return Application(process, log, page, [page, *fds])


def _kept(source: str) -> Path:
    """Write a script where the next test with the same one finds it: its compiled code is kept by its path."""
    digest = hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
    folder = Path(tempfile.gettempdir(), f"nomx-test-applications-{os.getuid()}")
    folder.mkdir(mode=0o755, exist_ok=True)
    script = folder / f"{digest}.py"
    script.write_text(textwrap.dedent(source))
    return script


class Host:
    """The Linux host behind a station: its sockets, and its programs."""

    def __init__(self, station: PlugPort) -> None:
        self.station = station
        self._path = Path(station.netns)

    def udp(self, *, timeout_s: float = 5.0, over_ipv6: bool = False) -> socket.socket:
        with netns.inside(self._path):
            opened = socket.socket(socket.AF_INET6 if over_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        opened.settimeout(timeout_s)
        return opened

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the host's namespace."""
        inside = ["ip", "netns", "exec", self._path.name, *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=30, check=False)

    def answered(self, to: str, port: int, payload: bytes, attempts: int = 5) -> bytes | None:
        """Ask over UDP; the answer. A veth may drop, so a lost one is asked for again."""
        with self.udp(timeout_s=1.0, over_ipv6=":" in to) as asking:
            asking.connect((to, port))
            for _ in range(attempts):
                asking.send(payload)
                try:
                    return asking.recv(1 << 16)
                except TimeoutError:
                    continue
        return None
