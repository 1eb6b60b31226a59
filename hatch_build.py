"""The build hook: compiles each `bpf/NAME.bpf.c` to `nomx/_bpf/NAME.bpf.o`, for wheels and editable installs alike.

Takes clang where there is one, else ziglang's clang from PyPI; NOMX_BPF_CC names another command.
Also a command of its own: `python hatch_build.py` compiles what has changed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a command, where nothing is built but the objects
    BuildHookInterface = object  # type: ignore[assignment,misc]

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "bpf"
OBJECTS = ROOT / "nomx" / "_bpf"
FLAGS = ("-mcpu=v3", "-g", "-O2", "-Wall", "-Wextra")
ZIGLANG = "ziglang>=0.13"


class CompileError(Exception):
    """A BPF program did not compile, or there is nothing to compile it with."""


def compilers() -> Iterator[list[str]]:
    """Yield the commands of the C compilers with a BPF target that this machine has, the first choice first."""
    if chosen := os.environ.get("NOMX_BPF_CC"):
        yield chosen.split()
    if clang := shutil.which("clang"):
        yield [clang, "-target", "bpf"]
    if importlib.util.find_spec("ziglang"):
        # Zig's driver adds unwind tables, which mean nothing here and which libbpf does not know.
        freestanding = ("-target", "bpfel-freestanding", "-fno-asynchronous-unwind-tables")
        yield [sys.executable, "-m", "ziglang", "cc", *freestanding]


def compile_all() -> list[Path]:
    """Compile each program that is older than its sources; all objects, compiled now or before.

    Raises: CompileError: there is no compiler, or it refuses.
    """
    OBJECTS.mkdir(exist_ok=True)
    headers = max(header.stat().st_mtime_ns for header in SOURCES.rglob("*.h"))
    objects = []
    for source in sorted(SOURCES.glob("*.bpf.c")):
        target = OBJECTS / f"{source.name.removesuffix('.c')}.o"
        newest = max(headers, source.stat().st_mtime_ns, Path(__file__).stat().st_mtime_ns)
        if not target.exists() or target.stat().st_mtime_ns < newest:
            compiler = next(compilers(), None)
            if compiler is None:
                raise CompileError(f"no compiler for BPF: install clang, or {ZIGLANG} from PyPI")
            compile_one(source, target, *compiler)
        objects.append(target)
    for stale in set(OBJECTS.glob("*.bpf.o")) - set(objects):
        stale.unlink()
    return objects


def compile_one(source: Path, target: Path, *compiler: str) -> None:
    """Compile one program; whoever loads *target* meanwhile sees the old object or the new one.

    Raises: CompileError: with what the compiler said.
    """
    part = target.with_suffix(f".{os.getpid()}.part")
    command = [*compiler, *FLAGS, "-I", str(SOURCES / "include"), "-c", str(source), "-o", str(part)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{' '.join(command)}\n{done.stderr}")
    part.rename(target)


class BpfBuildHook(BuildHookInterface):  # type: ignore[type-arg,misc]
    """Hatchling's hook."""

    def dependencies(self) -> list[str]:
        return [] if shutil.which("clang") or os.environ.get("NOMX_BPF_CC") else [ZIGLANG]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        for path in compile_all():
            build_data["artifacts"].append(f"/{path.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        compile_all()
    except CompileError as error:
        sys.exit(str(error))
