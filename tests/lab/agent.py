"""Runs inside the guest: one JSON line in (id, cmd, timeout_s), one JSON line out (id, rc, out, seconds).

Standard library only: it is started by the guest's first process, with whatever Python the host has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

PORT = "nomx.lab"
PORT_DEADLINE_S = 20.0


def find_port() -> str:
    """The character device of the virtio-serial port named PORT."""
    deadline = time.monotonic() + PORT_DEADLINE_S
    while time.monotonic() < deadline:
        for name in Path("/sys/class/virtio-ports").glob("*/name"):
            if name.read_text().strip() == PORT:
                return f"/dev/{name.parent.name}"
        time.sleep(0.05)
    sys.exit(f"no virtio-serial port named {PORT}")


def run(command: str, timeout_s: float) -> dict[str, object]:
    started = time.monotonic()
    try:
        done = subprocess.run(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
        )
        rc, out = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        rc, out = 124, late.stdout or b""
    return {"rc": rc, "out": out.decode(errors="replace"), "seconds": round(time.monotonic() - started, 3)}


def power_off() -> None:
    os.sync()
    Path("/proc/sysrq-trigger").write_text("o")
    time.sleep(60)


def main() -> None:
    subprocess.run(["modprobe", "virtio_console"], check=False)
    port = os.open(find_port(), os.O_RDWR)

    def send(answer: dict[str, object]) -> None:
        line = json.dumps(answer).encode() + b"\n"
        while line:
            line = line[os.write(port, line) :]

    send({"id": 0, "release": os.uname().release})
    pending = b""
    while True:
        received = os.read(port, 1 << 16)
        if not received:  # nobody at the host's end
            time.sleep(0.05)
            continue
        pending += received
        while b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            request = json.loads(line)
            if request["cmd"] is None:
                power_off()
            send({"id": request["id"], **run(request["cmd"], request["timeout_s"])})


if __name__ == "__main__":
    main()
