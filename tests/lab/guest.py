"""Boots the guest and talks to its agent; one lab at a time, gone at the end whatever happened."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.lab import initrd, machine, packages
from tests.lab.machine import Topology
from tests.lab.packages import LabUnavailable

BOOT_DEADLINE_S = 150.0
KVM_DEADLINE_S = 8.0
STOP_DEADLINE_S = 10.0
CONSOLE_LINES = 40
PASSED_IN = ("init.sh", "agent.py")


class GuestFailed(Exception):
    """The guest did not boot, went silent or died; the message ends with its console."""


@dataclass(frozen=True)
class Result:
    """A command's end inside the guest."""

    rc: int
    out: str
    seconds: float


class Guest:
    """A running guest. A context manager: leaving it powers the guest off and removes its files."""

    def __init__(self, topology: Topology | None = None) -> None:
        """Fetch what is missing and boot.

        Raises: LabUnavailable: the packages cannot be had, or another lab runs. GuestFailed: it did not boot.
        """
        topology = topology or Topology()
        cache = packages.fetch((topology.kernel,))
        self._lock = _only_lab(cache.root)
        for stale in cache.root.glob("run-*"):  # the lock is ours: nobody lives there
            shutil.rmtree(stale)
        self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=cache.root))
        self._calls = 0
        self._pending = b""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self.acceleration = self._start(topology, cache)
            self._connect()
            self.release = str(self._receive(BOOT_DEADLINE_S)["release"])
        except BaseException:
            self.stop()
            raise

    def _start(self, topology: Topology, cache: packages.Cache) -> str:
        """Start QEMU with the quickest acceleration that really runs; its name."""
        kernel = cache.kernel(topology.kernel)
        files = machine.Files(self._folder / "initrd.img", self._folder / "share", self._folder / "agent.sock")
        files.initrd.write_bytes(initrd.build(cache, kernel))
        files.share.mkdir()
        for name in PASSED_IN:
            shutil.copy(Path(__file__).with_name(name), files.share)
        for acceleration in machine.accelerations():
            arguments = machine.arguments(topology, kernel, files, cache.qemu, acceleration)
            self._process = self._spawn(cache, arguments)
            if acceleration == "tcg" or self._reached_initrd():
                return acceleration
            self._kill()
        raise AssertionError("software emulation is always the last to be tried")

    def _spawn(self, cache: packages.Cache, arguments: list[str]) -> subprocess.Popen[bytes]:
        command = ["setpriv", "--pdeathsig", "KILL", *cache.command("usr/bin/qemu-system-x86_64", *arguments)]
        environment = os.environ | {"QEMU_MODULE_DIR": str(cache.qemu / "usr/lib/x86_64-linux-gnu/qemu")}
        with self.console_path.open("wb") as console:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=environment,
                start_new_session=True,
            )

    def _reached_initrd(self) -> bool:
        """Whether the guest came as far as its initial RAM disk: /dev/kvm may open, and yet no guest run."""
        deadline = time.monotonic() + KVM_DEADLINE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if initrd.REACHED in self.console():
                return True
            time.sleep(0.1)
        return False

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def console_path(self) -> Path:
        return self._folder / "console.log"

    def console(self) -> str:
        """The last lines that the guest wrote to its serial console."""
        lines = self.console_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-CONSOLE_LINES:])

    def _connect(self) -> None:
        deadline = time.monotonic() + STOP_DEADLINE_S
        while True:
            try:
                self._socket.connect(str(self._folder / "agent.sock"))
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise GuestFailed(f"QEMU did not start:\n{self.console()}") from None
                time.sleep(0.05)

    def _receive(self, timeout_s: float) -> dict[str, object]:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                received = self._socket.recv(1 << 16)
            except TimeoutError:
                raise GuestFailed(f"the guest was silent for {timeout_s:.0f} s:\n{self.console()}") from None
            except ConnectionResetError:
                received = b""
            if not received:
                raise GuestFailed(f"the guest is gone:\n{self.console()}")
            self._pending += received
        line, self._pending = self._pending.split(b"\n", 1)
        answer: dict[str, object] = json.loads(line)
        return answer

    def run(self, command: str, timeout_s: float = 60.0, check: bool = True) -> Result:
        """Run *command* in the guest's bash; standard output and error come back as one text.

        Raises: AssertionError: it failed and *check* is set. GuestFailed: the guest is gone or silent.
        """
        self._calls += 1
        request = {"id": self._calls, "cmd": command, "timeout_s": timeout_s}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        answer = self._receive(timeout_s + 30)
        result = Result(int(str(answer["rc"])), str(answer["out"]), float(str(answer["seconds"])))
        if check and result.rc:
            raise AssertionError(f"{command!r} exited {result.rc} in the guest:\n{result.out}")
        return result

    def stop(self) -> None:
        """Power off, wait, kill what does not end, remove the guest's files."""
        process = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            try:
                self._socket.sendall(b'{"id": -1, "cmd": null}\n')
                process.wait(STOP_DEADLINE_S)
            except (OSError, subprocess.TimeoutExpired):
                self._kill()
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _only_lab(root: Path) -> int:
    """Take the lock that one lab holds; its descriptor."""
    lock = os.open(root / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise LabUnavailable(
            f"another lab runs from {root}; wait for its end, or give this one a NOMX_LAB_CACHE of its own"
        ) from None
    return lock
