"""The kernel's own description of its types (BTF), over libbpf: as C declarations, and the arguments of tracepoints.

Used by `nomx trace probe`, which so needs no kernel headers: these types are the running kernel's,
where headers of another kernel give wrong offsets and no error.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomx.errors import NotSupported
from nomx.linux.libbpf import SONAME

_KIND_FUNC = 12
_VLEN_MASK = 0xFFFF


class _Type(ctypes.Structure):
    """`struct btf_type`: *size_or_type* is the type id of a FUNC's prototype."""

    _fields_ = (("name_off", c_uint32), ("info", c_uint32), ("size_or_type", c_uint32))


class _Param(ctypes.Structure):
    """`struct btf_param`."""

    _fields_ = (("name_off", c_uint32), ("type", c_uint32))


class _EmitOptions(ctypes.Structure):
    """`struct btf_dump_emit_type_decl_opts`."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("field_name", c_char_p),
        ("indent_level", c_int),
        ("strip_mods", ctypes.c_bool),
    )


@dataclass(frozen=True)
class Argument:
    """An argument of a tracepoint: its *name*, and its *declaration* in C, name included."""

    name: str
    declaration: str


def _library() -> tuple[Any, Any]:
    """Return libbpf and libc with the signatures that are used here."""
    try:
        bpf = ctypes.CDLL(SONAME, use_errno=True)
    except OSError as error:
        remedy = "install libbpf 1.x: apt-get install libbpf1"
        raise NotSupported(feature="BTF", missing=str(error), remedy=remedy) from error
    libc = ctypes.CDLL(None, use_errno=True)
    for library, name, result, *arguments in (
        (bpf, "btf__load_vmlinux_btf", c_void_p),
        (bpf, "btf__free", None, c_void_p),
        (bpf, "btf__type_cnt", c_uint32, c_void_p),
        (bpf, "btf__find_by_name_kind", c_int, c_void_p, c_char_p, c_uint32),
        (bpf, "btf__type_by_id", POINTER(_Type), c_void_p, c_uint32),
        (bpf, "btf__name_by_offset", c_char_p, c_void_p, c_uint32),
        (bpf, "btf_dump__new", c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
        (bpf, "btf_dump__free", None, c_void_p),
        (bpf, "btf_dump__dump_type", c_int, c_void_p, c_uint32),
        (bpf, "btf_dump__emit_type_decl", c_int, c_void_p, c_uint32, POINTER(_EmitOptions)),
        (libc, "fopen", c_void_p, c_char_p, c_char_p),
        (libc, "fmemopen", c_void_p, c_void_p, ctypes.c_size_t, c_char_p),
        (libc, "fclose", c_int, c_void_p),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return bpf, libc


@contextmanager
def _dump_to(file: int, bpf: Any, libc: Any) -> Iterator[tuple[int, int]]:
    """Yield (BTF of the kernel, dumper that prints to a FILE); closes all three.

    libbpf prints through a function of vfprintf's own signature, so libc's is passed as it is.
    """
    btf = bpf.btf__load_vmlinux_btf()
    if not btf:
        libc.fclose(file)
        remedy = "use a kernel with CONFIG_DEBUG_INFO_BTF"
        raise NotSupported(feature="BTF", missing=os.strerror(ctypes.get_errno()), remedy=remedy)
    dumper = bpf.btf_dump__new(btf, ctypes.cast(libc.vfprintf, c_void_p), file, None)
    try:
        yield btf, dumper
    finally:
        bpf.btf_dump__free(dumper)
        bpf.btf__free(btf)
        libc.fclose(file)


def write_declarations(path: Path) -> None:
    """Write every type of the running kernel as C, about 3 MB.

    Raises: NotSupported: no libbpf, or no BTF. OSError: it cannot be written.
    """
    bpf, libc = _library()
    file = libc.fopen(os.fsencode(path), b"w")
    if not file:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    with _dump_to(file, bpf, libc) as (btf, dumper):
        for type_id in range(1, bpf.btf__type_cnt(btf)):
            bpf.btf_dump__dump_type(dumper, type_id)


def tracepoint_arguments(name: str) -> tuple[Argument, ...] | None:
    """Return the arguments of a raw tracepoint in order; None where the kernel has none of that name.

    Raises: NotSupported: no libbpf, or no BTF.
    """
    bpf, libc = _library()
    text = ctypes.create_string_buffer(1 << 16)
    file = libc.fmemopen(text, len(text), b"w")
    with _dump_to(file, bpf, libc) as (btf, dumper):
        function = max(
            bpf.btf__find_by_name_kind(btf, f"{prefix}{name}".encode(), _KIND_FUNC)
            for prefix in ("__traceiter_", "__bpf_trace_")
        )
        if function <= 0:
            return None
        prototype = bpf.btf__type_by_id(btf, bpf.btf__type_by_id(btf, function).contents.size_or_type)
        first = ctypes.addressof(prototype.contents) + ctypes.sizeof(_Type)
        params = (_Param * (prototype.contents.info & _VLEN_MASK)).from_address(first)
        names = [bpf.btf__name_by_offset(btf, param.name_off) for param in params]
        for param, own in list(zip(params, names, strict=True))[1:]:  # the first is the probe's own data
            options = _EmitOptions(ctypes.sizeof(_EmitOptions), own, 0, False)
            bpf.btf_dump__emit_type_decl(dumper, param.type, ctypes.byref(options))
            libc.fputs(b"\n", ctypes.c_void_p(file))
    return tuple(
        Argument(own.decode(), declaration)
        for own, declaration in zip(names[1:], text.value.decode().splitlines(), strict=True)
    )
