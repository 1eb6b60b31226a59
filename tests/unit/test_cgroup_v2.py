"""The v2 controllers over a directory of plain files: what is written where. The real ones are tests/lab's."""

from __future__ import annotations

import pytest

from nomx.linux.cgroupfs import Controller, directory_name
from nomx.mech.cpuset import CpusetV2, cpuset
from nomx.mech.memory import MemoryV2, memory
from nomx.types import CpuSet


@pytest.fixture
def root(tmp_path):
    (tmp_path / "cpuset.cpus.effective").write_text("0,3\n")
    return tmp_path


@pytest.fixture
def group(root):
    directory = root / directory_name("test", "lease1")
    directory.mkdir()
    files = {
        "cpuset.cpus": "",
        "cpuset.cpus.effective": "1-2\n",
        "cpuset.cpus.partition": "",  # a plain file keeps what a shorter write leaves
        "memory.max": "max\n",
        "memory.swap.max": "max\n",
        "memory.current": "4096\n",
        "memory.events": "low 0\noom 2\noom_kill 1\n",
    }
    for name, content in files.items():
        (directory / name).write_text(content)
    return directory


def test_the_version_decides(tmp_path):
    assert isinstance(cpuset(Controller("cpuset", 2, tmp_path)), CpusetV2)
    assert isinstance(memory(Controller("memory", 2, tmp_path)), MemoryV2)


def test_exclusive_cpus_are_a_partition(root, group):
    CpusetV2(root).give(group, CpuSet({1, 2}), exclusive=True)
    assert (group / "cpuset.cpus").read_text().startswith("1-2")
    assert (group / "cpuset.cpus.partition").read_text().startswith("root")
    assert CpusetV2(root).unenforced(group, exclusive=True) == ()


def test_shared_cpus_are_no_partition(root, group):
    CpusetV2(root).give(group, CpuSet({0, 3}), exclusive=False)
    assert (group / "cpuset.cpus.partition").read_text() == ""
    assert CpusetV2(root).unenforced(group, exclusive=False) == ()


def test_a_kernel_without_partitions_is_told_of(root, group):
    (group / "cpuset.cpus.partition").unlink()
    CpusetV2(root).give(group, CpuSet({1, 2}), exclusive=True)
    assert "refused a cpuset partition" in CpusetV2(root).unenforced(group, exclusive=True)[0]


def test_what_our_own_partitions_took_is_still_ours_to_give(root, group):
    assert CpusetV2(root).available("test") == CpuSet({0, 3})
    (group / "cpuset.cpus.partition").write_text("root\n")
    assert CpusetV2(root).available("test") == CpuSet(range(4))
    assert CpusetV2(root).available("other") == CpuSet({0, 3})


def test_a_memory_limit_leaves_no_way_into_swap(group):
    limits = MemoryV2()
    assert limits.limit_bytes(group) is None
    limits.limit(group, 64 << 20)
    assert limits.limit_bytes(group) == 64 << 20
    assert (group / "memory.swap.max").read_text().startswith("0")
    assert (limits.used_bytes(group), limits.oom_kills(group)) == (4096, 1)
