"""Feature probes that load a program of two instructions: what BPF and XDP give here, found by trying.

Part of `nomx.linux.probe`, which names the probes; nothing that a probe makes outlives it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from nomx.types import Finding

_PROG_TYPE_XDP = 6
_PROG_TYPE_TRACING = 26
_ATTACH_TRACE_RAW_TP = 23
_ATTACH_TRACE_FENTRY = 24
_CLONE_NEWNET = 0x40000000
_XDP_FLAGS_DRV_MODE = 1 << 2
_R0_IMMEDIATE = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K: r0 = immediate
_EXIT = 0x95  # BPF_JMP | BPF_EXIT
_XDP_PASS = 2

_LIBBPF = "libbpf.so.1"
_REMEDY_LIBBPF = "install it: apt-get install libbpf1"
_REMEDY_BPF = "run as root, on a kernel with CONFIG_BPF_SYSCALL that is not locked down for BPF"


class _LoadOptions(ctypes.Structure):
    """`struct bpf_prog_load_opts` as far as it is used here; libbpf takes the size as its version."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
        ("attach_btf_obj_fd", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    )


def libbpf() -> Finding:
    """Is libbpf 1.x there?"""
    try:
        library = ctypes.CDLL(_LIBBPF)
    except OSError as error:
        return Finding("libbpf", available=False, reason=str(error), remedy=_REMEDY_LIBBPF)
    library.libbpf_version_string.restype = ctypes.c_char_p
    return Finding("libbpf", available=True, reason=library.libbpf_version_string().decode())


def bpf() -> Finding:
    """May this process load an XDP program?"""
    if not (library := libbpf()).available:
        return Finding(
            "bpf", available=False, reason=f"cannot try without libbpf: {library.reason}", remedy=_REMEDY_LIBBPF
        )
    try:
        with _program(_PROG_TYPE_XDP, _XDP_PASS):
            return Finding("bpf", available=True, reason="an XDP program loads")
    except OSError as error:
        return Finding("bpf", available=False, reason=_told(error, "CAP_BPF and CAP_NET_ADMIN"), remedy=_REMEDY_BPF)


def veth_xdp() -> Finding:
    """Does a veth take an XDP program in native mode? Tried on a pair in a namespace of its own."""
    if not (base := bpf()).available:
        return Finding("veth_xdp", available=False, reason=base.reason, remedy=base.remedy)
    try:
        in_new_namespace(_attach_to_veth)
    except OSError as error:
        remedy = "use a kernel with CONFIG_VETH and CONFIG_XDP_SOCKETS; in a container, give it CAP_NET_ADMIN"
        return Finding(
            "veth_xdp", available=False, reason=_told(error, "CAP_SYS_ADMIN and CAP_NET_ADMIN"), remedy=remedy
        )
    return Finding("veth_xdp", available=True, reason="native XDP on a veth pair")


def tp_btf() -> Finding:
    """Can system calls be counted from outside, by a BTF tracepoint program on sys_enter?"""
    if not (base := bpf()).available:
        return Finding("tp_btf", available=False, reason=base.reason, remedy=base.remedy)
    library = ctypes.CDLL(_LIBBPF, use_errno=True)
    remedy = "use a kernel with CONFIG_DEBUG_INFO_BTF and CONFIG_FTRACE_SYSCALLS; all else works without it"
    type_id = library.libbpf_find_vmlinux_btf_id(b"sys_enter", _ATTACH_TRACE_RAW_TP)
    if type_id <= 0:
        reason = f"the kernel's BTF has no tracepoint sys_enter ({os.strerror(-type_id)})"
        return Finding("tp_btf", available=False, reason=reason, remedy=remedy)
    try:
        with _program(_PROG_TYPE_TRACING, 0, attach_type=_ATTACH_TRACE_RAW_TP, attach_btf_id=type_id) as program:
            link = library.bpf_raw_tracepoint_open(None, program)
            if link < 0:
                raise OSError(-link, f"attaching to sys_enter: {os.strerror(-link)}")
            os.close(link)
    except OSError as error:
        return Finding("tp_btf", available=False, reason=_told(error, "CAP_BPF and CAP_PERFMON"), remedy=remedy)
    return Finding("tp_btf", available=True, reason="a program attaches to sys_enter")


def fentry() -> Finding:
    """Can a program be attached to a function of the kernel (fentry, fexit)?"""
    if not (base := bpf()).available:
        return Finding("fentry", available=False, reason=base.reason, remedy=base.remedy)
    library = ctypes.CDLL(_LIBBPF, use_errno=True)
    remedy = "use a kernel with CONFIG_DEBUG_INFO_BTF and CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, not locked down"
    type_id = library.libbpf_find_vmlinux_btf_id(b"ip_rcv", _ATTACH_TRACE_FENTRY)
    if type_id <= 0:
        reason = f"the kernel's BTF has no function ip_rcv ({os.strerror(-type_id)})"
        return Finding("fentry", available=False, reason=reason, remedy=remedy)
    try:
        with _program(_PROG_TYPE_TRACING, 0, attach_type=_ATTACH_TRACE_FENTRY, attach_btf_id=type_id) as program:
            link = library.bpf_raw_tracepoint_open(None, program)
            if link < 0:
                raise OSError(-link, f"attaching to ip_rcv: {os.strerror(-link)}")
            os.close(link)
    except OSError as error:
        locked = "; an XDP program loads, so the kernel is locked down or built without it"
        reason = f"{error.strerror}{locked if error.errno == errno.EPERM else ''}"
        return Finding("fentry", available=False, reason=reason, remedy=remedy)
    return Finding("fentry", available=True, reason="a program attaches to a kernel function")


def in_new_namespace(work: Callable[[], None]) -> None:
    """Run *work* in a network namespace that lives as long as the call: only a thread enters it.

    Raises: OSError: the namespace was refused, or what *work* raised.
    """
    failures: list[OSError] = []

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            if libc.unshare(_CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"unshare(CLONE_NEWNET): {os.strerror(ctypes.get_errno())}")
            work()
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=enter, name="nomx-probe")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _attach_to_veth() -> None:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with _program(_PROG_TYPE_XDP, _XDP_PASS) as program, IPRoute() as netlink:
            netlink.link("add", ifname="probe0", kind="veth", peer={"ifname": "probe1"})
            index = netlink.link_lookup(ifname="probe0")[0]
            netlink.link("set", index=index, xdp_fd=program, xdp_flags=_XDP_FLAGS_DRV_MODE)
    except NetlinkError as error:
        raise OSError(error.code, f"veth with native XDP: {os.strerror(error.code)}") from error


@contextlib.contextmanager
def _program(kind: int, result: int, *, attach_type: int = 0, attach_btf_id: int = 0) -> Iterator[int]:
    """Load `return result` as a program of *kind*; yields its descriptor and closes it."""
    library: Any = ctypes.CDLL(_LIBBPF, use_errno=True)
    code = _instruction(_R0_IMMEDIATE, result) + _instruction(_EXIT, 0)
    options = _LoadOptions(
        sz=ctypes.sizeof(_LoadOptions), expected_attach_type=attach_type, attach_btf_id=attach_btf_id
    )
    fd = library.bpf_prog_load(
        kind, b"nomx_probe", b"Dual BSD/GPL", ctypes.c_char_p(code), ctypes.c_size_t(2), ctypes.byref(options)
    )
    if fd < 0:
        raise OSError(-fd, f"bpf(BPF_PROG_LOAD): {os.strerror(-fd)}")
    try:
        yield fd
    finally:
        os.close(fd)


def _instruction(opcode: int, immediate: int) -> bytes:
    """Encode one BPF instruction on register 0. Source: RFC 9669, section 3.1."""
    return bytes((opcode, 0, 0, 0)) + immediate.to_bytes(4, "little")


def _told(error: OSError, capabilities: str) -> str:
    """Say what *error* means where the errno alone does not."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"{error.strerror}; it takes {capabilities}"
    return error.strerror or str(error)
