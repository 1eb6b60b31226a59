"""libbpf 1.x as ctypes declares it: the functions that nomx calls, each with its C signature, nothing more.

The distribution's shared library does the work (CO-RE relocation, BTF, links), so the user's
machine needs neither a compiler nor kernel headers. `nomx.linux.bpf` is what to use.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

from nomx.errors import NotSupported

SONAME = "libbpf.so.1"

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "libbpf_set_print": (c_void_p, _PRINT),
    "libbpf_num_possible_cpus": (c_int,),
    "bpf_object__open_file": (c_void_p, c_char_p, c_void_p),
    "bpf_object__load": (c_int, c_void_p),
    "bpf_object__close": (None, c_void_p),
    "bpf_object__next_map": (c_void_p, c_void_p, c_void_p),
    "bpf_object__next_program": (c_void_p, c_void_p, c_void_p),
    "bpf_map__name": (c_char_p, c_void_p),
    "bpf_map__fd": (c_int, c_void_p),
    "bpf_map__set_max_entries": (c_int, c_void_p, c_uint32),
    "bpf_map__initial_value": (c_void_p, c_void_p, POINTER(c_size_t)),
    "bpf_program__name": (c_char_p, c_void_p),
    "bpf_program__fd": (c_int, c_void_p),
    "bpf_program__set_autoload": (c_int, c_void_p, c_bool),
    "bpf_program__attach": (c_void_p, c_void_p),
    "bpf_program__attach_cgroup": (c_void_p, c_void_p, c_int),
    "bpf_program__attach_perf_event": (c_void_p, c_void_p, c_int),
    "bpf_program__attach_iter": (c_void_p, c_void_p, c_void_p),
    "bpf_iter_create": (c_int, c_int),
    "bpf_link__fd": (c_int, c_void_p),
    "bpf_link__destroy": (c_int, c_void_p),
    "bpf_map_lookup_elem": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map_update_elem": (c_int, c_int, c_void_p, c_void_p, c_uint64),
    "bpf_map_delete_elem": (c_int, c_int, c_void_p),
    "bpf_map_get_next_key": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map_create": (c_int, c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p),
    "bpf_map_get_fd_by_id": (c_int, c_uint32),
    "bpf_obj_pin": (c_int, c_int, c_char_p),
    "bpf_obj_get": (c_int, c_char_p),
    "libbpf_find_vmlinux_btf_id": (c_int, c_char_p, c_int),
    "bpf_prog_get_fd_by_id": (c_int, c_uint32),
    "bpf_obj_get_info_by_fd": (c_int, c_int, c_void_p, POINTER(c_uint32)),
    "bpf_prog_test_run_opts": (c_int, c_int, c_void_p),
    "ring_buffer__new": (c_void_p, c_int, c_void_p, c_void_p, c_void_p),
    "ring_buffer__poll": (c_int, c_void_p, c_int),
    "ring_buffer__free": (None, c_void_p),
}

_said: list[str] = []


def _remember(_level: int, text: bytes, _arguments: int) -> int:
    """Keep libbpf's format strings off the terminal; what failed is told by the error."""
    _said.append(text.decode(errors="replace"))
    del _said[:-20]
    return 0


_remember_callback = _PRINT(_remember)


def _open() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(SONAME, use_errno=True)
    except OSError as error:
        raise NotSupported(
            feature="BPF", missing=str(error), remedy="install libbpf 1.x: apt-get install libbpf1"
        ) from error
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    if not os.environ.get("NOMX_LIBBPF_DEBUG"):
        library.libbpf_set_print(_remember_callback)
    return library


_library: ctypes.CDLL | None = None


def lib() -> Any:
    """The library, opened when it is first needed.

    Raises: NotSupported: there is no libbpf 1.x on this machine.
    """
    global _library
    if _library is None:
        _library = _open()
    return _library


def check(result: int | None, call: str) -> int:
    """Return *result* unless it says that *call* failed.

    Raises: OSError: with libbpf's errno and the call.
    """
    if result is None or result < 0:
        code = -result if result else ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
    return result
