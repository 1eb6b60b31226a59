"""Peers: the programs we compare with, compiled for this machine into a cache, started on a CPU, stopped by pid."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from nomx.errors import MechanismError, NotSupported

_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-Wall", "-Wextra")
_BUILD_DEADLINE_S = 60
_READY_DEADLINE_S = 5
_STOP_DEADLINE_S = 3


def build(source: Path, cache: Path, libraries: Sequence[str] = ()) -> Path:
    """Compile a C peer, unless it was compiled from the same source before; the program.

    Raises: NotSupported: there is no C compiler. MechanismError: it does not compile.
    """
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NotSupported(
            feature=f"the peer {source.name}", missing="a C compiler", remedy="apt-get install gcc libc6-dev"
        )
    flags = [*_FLAGS, *(f"-l{library}" for library in libraries)]
    digest = hashlib.sha256(source.read_bytes() + " ".join(flags).encode()).hexdigest()[:16]
    program = cache / f"{source.stem}-{digest}"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = program.with_suffix(f".{os.getpid()}")
        command = [compiler, str(source), "-o", str(part), *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_DEADLINE_S)
        if done.returncode:
            raise MechanismError(
                operation=f"compile {source.name}", reason=done.stderr.strip(), hint="compile it by hand"
            )
        part.rename(program)
    return program


@contextlib.contextmanager
def running(command: Sequence[str], cpu: int) -> Iterator[subprocess.Popen[str]]:
    """Run a peer on *cpu* from the line `ready` on its standard output until the block ends.

    Raises: MechanismError: it ended before it was ready.
    """
    peer = subprocess.Popen(
        ["taskset", "-c", str(cpu), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert peer.stdout is not None
        if peer.stdout.readline() != "ready\n":
            _, complaint = peer.communicate(timeout=_READY_DEADLINE_S)
            raise MechanismError(operation=f"run {command[0]}", reason=complaint.strip(), hint="run it by hand")
        yield peer
    finally:
        peer.terminate()
        try:
            peer.communicate(timeout=_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            peer.kill()
            peer.communicate()
