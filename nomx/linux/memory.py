"""Shared memory: memfds and mappings, by address, for both flows: the daemon registers what the application uses.

mmap is called through libc rather than `mmap.mmap`, because a ring or a UMEM is needed by its
address, and the mapping must not move or close under compiled code. Every function raises OSError
with the call it was about.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os

_MAP_POPULATE = 0x8000
_MAP_FAILED = ctypes.c_void_p(-1).value
_MFD_HUGETLB_2MB = 0x0004 | 21 << 26

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

PAGE_BYTES = mmap.PAGESIZE
HUGE_PAGE_BYTES = 2 << 20
"""Of a huge memfd."""


def memfd(name: str, length: int, *, huge: bool = False) -> int:
    """Make an anonymous file of *length* bytes that can never be made shorter; its descriptor.

    Sealed against shrinking: who maps it need not fear a SIGBUS. *huge* asks for pages of 2 MiB.
    Source: memfd_create(2), "File sealing".
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | (_MFD_HUGETLB_2MB if huge else 0)
    fd = os.memfd_create(name, flags)
    try:
        os.ftruncate(fd, length)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    except OSError:
        os.close(fd)
        raise
    return fd


def is_sealed_against_shrinking(fd: int) -> bool:
    """Return whether *fd* is a memfd that nobody can make shorter."""
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    except OSError:  # EINVAL: no memfd at all
        return False


def map_shared(fd: int, length: int, offset: int = 0, *, populate: bool = False) -> int:
    """Map *length* bytes of *fd* from *offset*, readable and writable; the address.

    With *populate* every page is there when the call returns, charged to the caller's cgroup.
    Raises: OSError: naming the call, its length and its offset.
    """
    flags = mmap.MAP_SHARED | (_MAP_POPULATE if populate else 0)
    address = _libc.mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset)
    if address is None or address == _MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, f"mmap of {length} bytes at offset {offset:#x}: {os.strerror(code)}")
    return int(address)


def unmap(address: int, length: int) -> None:
    """Undo `map_shared`."""
    if _libc.munmap(address, length) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"munmap of {length} bytes: {os.strerror(code)}")
