"""A device unit bound to its application's memory: the mode really got, and each size that AF_XDP refuses mutely."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nomx.api.lease import RingSizes, UmemGeometry
from nomx.errors import InvalidRequest, MechanismError, NotSupported
from nomx.linux import memory, xsk
from tests.kernel.conftest import Wired
from tests.kernel.xsk_port import GEOMETRY

pytestmark = [pytest.mark.root, pytest.mark.netns]


def test_each_queue_is_bound_and_the_mode_is_read_back(wired: Wired, umem: int) -> None:
    binding = wired.binder.bind(wired.port(1, queues=2), umem, GEOMETRY)
    try:
        assert len(binding.xsk_fds) == 2
        assert not binding.mode.zerocopy
        assert (binding.mode.attach, binding.mode.driver) == ("native", "veth")
        assert "no AF_XDP zero-copy" in binding.mode.why
        assert binding.tx_budget >= 32
        assert all(not xsk.is_zerocopy(fd) for fd in binding.xsk_fds)
        assert xsk.statistics(binding.xsk_fds[0]) == xsk.XskStatistics(0, 0, 0, 0, 0, 0)
    finally:
        for fd in binding.xsk_fds:
            os.close(fd)


def test_required_zerocopy_is_refused_with_the_driver_and_a_remedy(wired: Wired, umem: int) -> None:
    action = wired.port(1)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(NotSupported, match="the veth driver has no AF_XDP zero-copy") as refusal:
        wired.binder.bind(action, umem, GEOMETRY, require=("zerocopy",))
    assert "--require zerocopy" in refusal.value.remedy
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("frame_bytes", {"frame_bytes": 3000}),
        ("frame_bytes", {"frame_bytes": 8192}),
        ("frames_per_queue", {"frames_per_queue": 3}),
        ("frames_per_queue", {"frames_per_queue": 0}),
        ("frames_per_queue", {"frames_per_queue": -2}),
        ("headroom_bytes", {"headroom_bytes": 2000}),
        ("rings.rx", {"rings": RingSizes(rx=100)}),
        ("rings.tx", {"rings": RingSizes(tx=0)}),
        ("rings.fill", {"rings": RingSizes(fill=-4)}),
        ("rings.completion", {"rings": RingSizes(completion=1 << 20)}),
        ("UMEM", {"frames_per_queue": 4096}),
    ],
)
def test_a_wrong_size_is_named(wired: Wired, umem: int, field: str, changed: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        wired.binder.bind(wired.port(1), umem, msgspec.structs.replace(GEOMETRY, **changed))
    assert refusal.value.field == field


def test_memory_that_could_shrink_is_refused(wired: Wired) -> None:
    with open(os.memfd_create("unsealed", 0), "wb") as unsealed:
        unsealed.write(bytes(GEOMETRY.slice_bytes))
        unsealed.flush()
        with pytest.raises(InvalidRequest, match="F_SEAL_SHRINK"):
            wired.binder.bind(wired.port(1), unsealed.fileno(), GEOMETRY)


def test_memory_that_the_daemon_would_pay_for_is_refused(wired: Wired) -> None:
    action = wired.port(1)
    with (
        open(memory.memfd("unpopulated", GEOMETRY.slice_bytes), "wb") as unpopulated,
        pytest.raises(InvalidRequest, match="fallocate"),
    ):
        wired.binder.bind(action, unpopulated.fileno(), GEOMETRY)


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Have the machine keep eight huge pages more."""
    setting = Path("/proc/sys/vm/nr_hugepages")
    before = int(setting.read_text())
    setting.write_text(str(before + 8))
    if int(setting.read_text()) < before + 8:
        setting.write_text(str(before))
        pytest.skip("the machine has no eight huge pages to give")
    yield
    setting.write_text(str(before))


def test_memory_of_huge_pages_is_bound(wired: Wired, huge_pages: None) -> None:
    umem = UmemGeometry(frames_per_queue=1024, huge_pages=True)
    with open(memory.memfd("huge", 2 * umem.slice_bytes, huge=True), "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * umem.slice_bytes)
        small = msgspec.structs.replace(umem, frames_per_queue=512)
        with pytest.raises(InvalidRequest, match="UMEM slice"):
            wired.binder.bind(wired.port(1, queues=2), file.fileno(), small)
        binding = wired.binder.bind(wired.port(2, queues=2), file.fileno(), umem)
        assert len(binding.xsk_fds) == 2
        for fd in binding.xsk_fds:
            os.close(fd)


def test_a_second_socket_on_a_queue_is_refused(wired: Wired, umem: int) -> None:
    action = wired.port(1)
    binding = wired.binder.bind(action, umem, GEOMETRY)
    before = set(os.listdir("/proc/self/fd"))
    try:
        with pytest.raises(MechanismError, match="attached already"):
            wired.binder.bind(action, umem, GEOMETRY)
        assert set(os.listdir("/proc/self/fd")) == before
    finally:
        for fd in binding.xsk_fds:
            os.close(fd)
