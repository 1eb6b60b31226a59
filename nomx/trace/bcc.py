"""The distribution's bcc, found and fed: its Python package, and headers made from the running kernel's BTF.

bcc is no package of PyPI (what has that name there is another program), so it is imported from the
distribution's folder, and from nowhere else. `nomx.trace.probe` compiles with it.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nomx.errors import InvalidRequest, MechanismError, NotSupported
from nomx.linux import btf

_FOLDERS = ("lib/python3/dist-packages", "lib/python3*/site-packages", "lib64/python3*/site-packages")
"""Below /usr, where distributions keep Python packages."""

_REMEDY = "install it: apt-get install python3-bpfcc (Fedora: dnf install python3-bcc)"

CFLAGS = [
    "-D__LINUX_BPF_H__",
    "-D_UAPI__LINUX_BPF_H__",
    "-DCONFIG_BPF_SYSCALL=1",
    "-Wno-unknown-attributes",
    "-Wno-macro-redefined",
    "-Wno-address-of-packed-member",
]
"""Keep bcc's own copies of kernel headers out: every type is the running kernel's."""

_HEADERS = {
    "asm": "page",
    "linux": "bpf bpf_common fs if_ether in ip kconfig log2 sched skbuff string tcp types udp",
    "net": "inet_sock sock tcp",
    "uapi/linux": "bpf bpf_common if_ether if_packet ip ptrace tcp udp",
}
"""What bcc and its users' programs include: each leads to the one file that has everything."""

_SHIM = """\
#pragma once
#define BPF_NO_PRESERVE_ACCESS_INDEX
#include <vmlinux.h>
#define PAGE_SIZE 4096
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define ETH_P_ARP 0x0806
#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_EXIST 2
#ifndef NULL
#define NULL ((void *)0)
#endif
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
"""


def load() -> Any:
    """Import the distribution's bcc.

    Raises: NotSupported: it is not installed, with the line that installs it.
    """
    known = sys.modules.get("bcc")
    if known is not None and hasattr(known, "BPF"):
        return known
    package = _find()
    if package is None:
        raise NotSupported(feature="nomx trace probe", missing="bcc is not installed", remedy=_REMEDY)
    where = [str(package)]
    spec = importlib.util.spec_from_file_location("bcc", package / "__init__.py", submodule_search_locations=where)
    if spec is None or spec.loader is None:
        raise NotSupported(feature="nomx trace probe", missing=f"{package} is no package", remedy=_REMEDY)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError) as error:
        del sys.modules["bcc"]
        raise NotSupported(feature="nomx trace probe", missing=f"bcc does not load: {error}", remedy=_REMEDY) from error
    return module


def _find() -> Path | None:
    """Return the folder of the bcc that is the BPF compiler's, None where there is none."""
    places = (place / "bcc" for pattern in _FOLDERS for place in sorted(Path("/usr").glob(pattern)))
    return next((place for place in places if (place / "libbcc.py").exists()), None)


@contextmanager
def kernel_headers() -> Iterator[Path]:
    """Make what bcc takes for the kernel's source from the running kernel's BTF, for as long as the context lasts.

    Raises: NotSupported: no BTF.
    """
    with tempfile.TemporaryDirectory(prefix="nomx-headers-") as folder:
        include = Path(folder, "include")
        for directory, headers in _HEADERS.items():
            (include / directory).mkdir(parents=True)
            for header in headers.split():
                (include / directory / f"{header}.h").write_text("#include <shim.h>\n")
        (include / "shim.h").write_text(_SHIM)
        (include / "linux" / "version.h").write_text(_version_header(platform.release()))
        btf.write_declarations(include / "vmlinux.h")
        before = os.environ.get("BCC_KERNEL_SOURCE")
        os.environ["BCC_KERNEL_SOURCE"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["BCC_KERNEL_SOURCE"]
            else:
                os.environ["BCC_KERNEL_SOURCE"] = before


def _version_header(release: str) -> str:
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    major, minor, patch = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    return (
        "#pragma once\n#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))\n"
        f"#define LINUX_VERSION_CODE KERNEL_VERSION({major}, {minor}, {patch})\n"
    )


def compile_program(text: str, name: str, lines: list[str]) -> Any:
    """Compile and attach *text*; *name* and *lines* are the user's file, for messages.

    Raises:
        InvalidRequest: it does not compile, with the user's line.
        MechanismError: the kernel does not take it.
    """
    module = load()
    with kernel_headers(), _caught_stderr() as said:
        try:
            return module.BPF(text=text.encode(), cflags=CFLAGS)
        except Exception as error:  # bcc raises nothing more exact
            raise _explained(said(), name, lines, error) from error


@contextmanager
def _caught_stderr() -> Iterator[Any]:
    """Catch what the compiler library writes to descriptor 2; yields a function that returns it."""
    with tempfile.TemporaryFile() as caught:
        kept = os.dup(2)
        os.dup2(caught.fileno(), 2)

        def said() -> str:
            caught.seek(0)
            return caught.read().decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _explained(said: str, name: str, lines: list[str], error: Exception) -> InvalidRequest | MechanismError:
    match = re.search(rf"{re.escape(name)}:(\d+):\d+: error: (.*)", said)
    if match is not None:
        number = int(match[1])
        line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        value = f"{name}, line {number}: {line}"
        return InvalidRequest(field="probe", value=value, expected=f"C that compiles: {match[2]}")
    if match := re.search(r"error: (.*)", said):
        return InvalidRequest(field="probe", value=name, expected=f"C that compiles: {match[1]}")
    last = [line for line in said.strip().splitlines() if line][-3:]
    hint = "the verifier's words are above; kprobes and fentry are not on every kernel (`nomx doctor`), tracepoints are"
    return MechanismError(operation=f"loading the probe {name}", reason=" | ".join([str(error), *last]), hint=hint)
