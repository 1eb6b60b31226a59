"""The structs that BPF programs and Python share: the compiler lays them out as Python packs and reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import hatch_build
from nomx.linux import abi

OFFSETS = {
    "nomx_port": {
        "version": 0,
        "slot": 4,
        "flags": 8,
        "ip4": 12,
        "mac": 16,
        "ip6": 24,
        "rate_bps": 40,
        "burst_ns": 48,
    },
    "nomx_device": {"version": 0, "slot": 4, "mac": 8},
    "nomx_counters": {"packets": 0, "bytes": 8, "drops": 16},
    "nomx_crossings": {"syscalls": 0, "napi_polls": 32, "socket_rx_packets": 40, "socket_tx_bytes": 64},
}
SIZES = {
    "nomx_port": abi.PORT.size,
    "nomx_device": abi.DEVICE.size,
    "nomx_counters": abi.Counters.FORMAT.size,
    "nomx_crossings": abi.CrossingCounters.FORMAT.size,
}


def test_the_compiler_lays_the_structs_out_as_python_does(tmp_path: Path) -> None:
    asserted = [f"sizeof(struct {name}) == {size}" for name, size in SIZES.items()]
    asserted += [
        f"__builtin_offsetof(struct {name}, {field}) == {offset}"
        for name, fields in OFFSETS.items()
        for field, offset in fields.items()
    ]
    asserted += [f"NOMX_DROP_{why.name} == {why.value}" for why in abi.Drop]
    asserted += [f"NOMX_DROP_REASONS == {len(abi.Drop)}", f"NOMX_MAX_QUEUES == {abi.MAX_QUEUES}"]
    asserted += [f"NOMX_ABI_VERSION == {abi.VERSION}", f"NOMX_MAX_PORTS == {abi.MAX_PORTS}"]
    source = tmp_path / "layout.c"
    lines = [f'_Static_assert({claim}, "{claim}");' for claim in asserted]
    source.write_text("\n".join(['#include "nomx/bpf.h"', '#include "nomx/abi.h"', *lines]) + "\n")
    command = [
        *next(hatch_build.compilers()),
        "-I",
        str(hatch_build.SOURCES / "include"),
        "-c",
        str(source),
        "-o",
        str(tmp_path / "layout.o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_python_packs_each_field_at_its_offset() -> None:
    packed = abi.port(7, "02:01:02:03:04:05", "10.1.2.3", "fd00::9", guarded=True, rate_bps=11, burst_ns=13)
    at = OFFSETS["nomx_port"]
    assert packed[at["slot"]] == 7
    assert packed[at["flags"]] == abi.PORT_GUARDED
    assert packed[at["ip4"] :][:4] == bytes([10, 1, 2, 3])
    assert packed[at["mac"] :][:6] == bytes([2, 1, 2, 3, 4, 5])
    assert packed[at["ip6"] :][:16] == bytes([0xFD] + [0] * 14 + [9])
    assert packed[at["rate_bps"]] == 11
    assert packed[at["burst_ns"]] == 13
    assert abi.device(7, "02:01:02:03:04:05")[OFFSETS["nomx_device"]["mac"] :][:6] == bytes([2, 1, 2, 3, 4, 5])


@pytest.mark.root
def test_the_loaded_maps_have_elements_of_these_sizes() -> None:
    from nomx.linux.bpf import Object

    maps = {"switch": {"nomx_ports": abi.PORT.size, "nomx_entered": abi.Counters.FORMAT.size}}
    maps["steer"] = {"nomx_devices": abi.DEVICE.size, "nomx_steered": abi.Counters.FORMAT.size}
    for name, sizes in maps.items():
        with Object.load_named(name) as loaded:
            assert {each: loaded.maps[each].value_bytes for each in sizes} == sizes
