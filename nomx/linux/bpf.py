"""BPF objects, maps, programs and links, over libbpf; also maps and programs found by their kernel ids.

A file descriptor is all that a map or a program needs, so one that an earlier daemon left attached
(`Program.by_id`) is used as one that was just loaded. Every failure is an OSError with the call.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from nomx.linux.libbpf import check, lib

OBJECTS = Path(__file__).resolve().parent.parent / "_bpf"
"""Where the build hook puts the compiled `bpf/*.bpf.c`."""

_PER_CPU_TYPES = frozenset({5, 6, 10, 21})
_INFO_BYTES = 256
_MAX_MAPS = 64
_HASH = 1
_CGROUPS = 1024
_LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES


def object_path(name: str) -> Path:
    """Return the compiled object of `bpf/<name>.bpf.c`.

    Raises: FileNotFoundError: it was not built.
    """
    path = OBJECTS / f"{name}.bpf.o"
    if not path.exists():
        raise FileNotFoundError(2, "BPF object was not built: run ./dev build, or reinstall nomx", str(path))
    return path


def possible_cpus() -> int:
    """How many values a per-CPU map element has."""
    return check(lib().libbpf_num_possible_cpus(), "libbpf_num_possible_cpus")


class Map:
    """A map by its descriptor. Keys and values are bytes of the map's own sizes."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        info = _info(fd)
        kind, self.id, self.key_bytes, self.value_bytes, self.max_entries = map(int, struct.unpack_from("=5I", info))
        self.name = _name(info, 24)
        self._per_cpu = kind in _PER_CPU_TYPES

    def close(self) -> None:
        """Close the descriptor of a map that was found by its id. An `Object` closes its own."""
        os.close(self.fd)

    def update(self, key: bytes, value: bytes) -> None:
        """Set an element; in a per-CPU map, to *value* on each CPU."""
        if self._per_cpu:
            value = value.ljust(self._stride, b"\0") * possible_cpus()
        check(lib().bpf_map_update_elem(self.fd, key, value, 0), f"bpf_map_update_elem({self.name})")

    def lookup(self, key: bytes) -> bytes | None:
        """Return an element, None where there is none."""
        values = self.lookup_each_cpu(key)
        return values[0] if values else None

    def lookup_each_cpu(self, key: bytes) -> list[bytes]:
        """Return an element's value on each possible CPU (one for all in an ordinary map); empty: there is none."""
        count = possible_cpus() if self._per_cpu else 1
        stride = self._stride if self._per_cpu else self.value_bytes
        values = ctypes.create_string_buffer(stride * count)
        if lib().bpf_map_lookup_elem(self.fd, key, values) < 0:
            return []
        return [values.raw[start : start + self.value_bytes] for start in range(0, stride * count, stride)]

    def delete(self, key: bytes) -> bool:
        """Delete an element; whether it was there."""
        return bool(lib().bpf_map_delete_elem(self.fd, key) == 0)

    def keys(self) -> Iterator[bytes]:
        """Yield the keys there are now."""
        key: bytes | None = None
        following = ctypes.create_string_buffer(self.key_bytes)
        while lib().bpf_map_get_next_key(self.fd, key, following) == 0:
            key = following.raw
            yield key

    @property
    def _stride(self) -> int:
        return -(-self.value_bytes // 8) * 8


class Link:
    """An attachment that lives as long as this object, at most as long as this process."""

    def __init__(self, pointer: int) -> None:
        self._pointer: int | None = pointer

    def close(self) -> None:
        if self._pointer is not None:
            lib().bpf_link__destroy(self._pointer)
            self._pointer = None


class Program:
    """A loaded program by its descriptor."""

    def __init__(self, fd: int, pointer: int | None = None) -> None:
        self.fd = fd
        self._pointer = pointer
        info = _info(fd)
        (self.id,) = struct.unpack_from("=I", info, 4)
        self.name = _name(info, 64)

    @classmethod
    def by_id(cls, program_id: int) -> Program:
        """Open a program that the kernel has. Raises: FileNotFoundError: it has gone."""
        return cls(check(lib().bpf_prog_get_fd_by_id(program_id), f"bpf_prog_get_fd_by_id({program_id})"))

    def close(self) -> None:
        """Close the descriptor of a program that was found by its id. An `Object` closes its own."""
        os.close(self.fd)

    def maps(self) -> dict[str, Map]:
        """Open the maps that this program uses, by name. Source: struct bpf_prog_info."""
        ids = (ctypes.c_uint32 * _MAX_MAPS)()
        request = bytearray(_INFO_BYTES)
        struct.pack_into("=IQ", request, 52, _MAX_MAPS, ctypes.addressof(ids))
        (count,) = struct.unpack_from("=I", _info(self.fd, request), 52)
        opened = (
            Map(check(lib().bpf_map_get_fd_by_id(ids[i]), f"bpf_map_get_fd_by_id({ids[i]})")) for i in range(count)
        )
        return {each.name: each for each in opened}

    @property
    def missed(self) -> int:
        """How often the kernel did not run it, because it was running on that CPU already."""
        (misses,) = struct.unpack_from("=Q", _info(self.fd), 208)
        return int(misses)

    def attach(self) -> Link:
        """Attach to what the program's section names (a tracepoint)."""
        pointer = lib().bpf_program__attach(self._pointer)
        return Link(check(pointer, f"bpf_program__attach({self.name})"))

    def attach_perf_event(self, perf_fd: int) -> Link:
        """Run whenever a perf event overflows. The link takes the descriptor over, and closes it."""
        pointer = lib().bpf_program__attach_perf_event(self._pointer, perf_fd)
        return Link(check(pointer, f"bpf_program__attach_perf_event({self.name})"))

    def iterate(self) -> bytes:
        """Run a BPF iterator over all it iterates, and return what it wrote.

        Source: Documentation/bpf/bpf_iterators.rst.
        """
        pointer = check(lib().bpf_program__attach_iter(self._pointer, None), f"bpf_program__attach_iter({self.name})")
        link = Link(pointer)
        try:
            fd = check(lib().bpf_iter_create(lib().bpf_link__fd(pointer)), f"bpf_iter_create({self.name})")
            with open(fd, "rb") as file:
                return file.read()
        finally:
            link.close()

    def attach_cgroup(self, cgroup: Path) -> Link:
        """Attach to a cgroup v2 directory."""
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            pointer = lib().bpf_program__attach_cgroup(self._pointer, fd)
            return Link(check(pointer, f"bpf_program__attach_cgroup({self.name}, {cgroup})"))
        finally:
            os.close(fd)

    def run_live(self, frame: bytes, ifindex: int, repeat: int, batch: int = 64) -> None:
        """Run an XDP program on *repeat* copies of *frame* as if *ifindex* had received them; its verdicts take effect.

        Source: Documentation/bpf/bpf_prog_run.rst, "Running XDP programs in live frame mode".
        """
        context = struct.pack("=6I", 0, len(frame), 0, ifindex, 0, 0)
        options = _TestRun(
            sz=ctypes.sizeof(_TestRun),
            data_in=frame,
            data_size_in=len(frame),
            ctx_in=context,
            ctx_size_in=len(context),
            repeat=repeat,
            flags=_LIVE_FRAMES,
            batch_size=batch,
        )
        check(lib().bpf_prog_test_run_opts(self.fd, ctypes.byref(options)), f"BPF_PROG_TEST_RUN({self.name})")


class _TestRun(ctypes.Structure):
    """`struct bpf_test_run_opts`."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_char_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class Object:
    """A compiled object: opened, configured, loaded, closed. A context manager."""

    def __init__(self, path: Path) -> None:
        """Open *path* without loading it."""
        pointer = lib().bpf_object__open_file(os.fsencode(path), None)
        self._pointer: int | None = check(pointer, f"bpf_object__open_file({path})")
        self._path = path
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}

    @classmethod
    def load_named(cls, name: str) -> Object:
        """Open and load the packaged object *name*."""
        opened = cls(object_path(name))
        try:
            return opened.load()
        except OSError:
            opened.close()
            raise

    def set_autoload(self, program: str, load: bool) -> None:
        """Choose whether *program* is loaded with the object."""
        for pointer in self._each("program"):
            if lib().bpf_program__name(pointer) == program.encode():
                check(lib().bpf_program__set_autoload(pointer, load), f"bpf_program__set_autoload({program})")

    def resize(self, name: str, max_entries: int) -> None:
        """Give a map room for *max_entries*, before `load`."""
        for pointer in self._each("map"):
            if lib().bpf_map__name(pointer) == name.encode():
                check(lib().bpf_map__set_max_entries(pointer, max_entries), f"bpf_map__set_max_entries({name})")

    def constants(self, section: str = ".rodata") -> ctypes.Array[ctypes.c_ubyte]:
        """A `const volatile` section, to be written before `load`."""
        for pointer in self._each("map"):
            if lib().bpf_map__name(pointer).endswith(section.encode()):
                size = ctypes.c_size_t()
                address = lib().bpf_map__initial_value(pointer, ctypes.byref(size))
                return (ctypes.c_ubyte * size.value).from_address(address)
        raise KeyError(f"{self._path} has no constants")

    def load(self) -> Self:
        """Load what is to be loaded into the kernel. Raises: OSError: the verifier or the kernel refused."""
        check(lib().bpf_object__load(self._pointer), f"bpf_object__load({self._path.name})")
        for pointer in self._each("map"):
            opened = Map(lib().bpf_map__fd(pointer))
            self.maps[lib().bpf_map__name(pointer).decode()] = opened
        for pointer in self._each("program"):
            if (fd := lib().bpf_program__fd(pointer)) >= 0:
                self.programs[lib().bpf_program__name(pointer).decode()] = Program(fd, pointer)
        return self

    def _each(self, kind: str) -> Iterator[int]:
        following = getattr(lib(), f"bpf_object__next_{kind}")
        pointer = following(self._pointer, None)
        while pointer:
            yield pointer
            pointer = following(self._pointer, pointer)

    def close(self) -> None:
        """Close the descriptors; what is attached elsewhere (XDP by netlink) stays."""
        if self._pointer is not None:
            lib().bpf_object__close(self._pointer)
            self._pointer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _info(fd: int, request: bytearray | None = None) -> bytes:
    """BPF_OBJ_GET_INFO_BY_FD."""
    buffer = (ctypes.c_ubyte * _INFO_BYTES).from_buffer(request or bytearray(_INFO_BYTES))
    length = ctypes.c_uint32(_INFO_BYTES)
    check(lib().bpf_obj_get_info_by_fd(fd, buffer, ctypes.byref(length)), "bpf_obj_get_info_by_fd")
    return bytes(buffer)


def _name(info: bytes, offset: int) -> str:
    return info[offset : offset + 16].split(b"\0")[0].decode()


def pin_cgroup_map(path: Path, cgroup: int) -> None:
    """Pin a hash map with one key, the cgroup's id: the shape that bcc's tools take as `--cgroupmap`.

    Raises: OSError: with the call.
    """
    made = check(lib().bpf_map_create(_HASH, b"nomx_cgroupset", 8, 8, _CGROUPS, None), "bpf_map_create")
    try:
        Map(made).update(cgroup.to_bytes(8, "little"), bytes(8))
        check(lib().bpf_obj_pin(made, os.fsencode(path)), f"bpf_obj_pin({path})")
    finally:
        os.close(made)
