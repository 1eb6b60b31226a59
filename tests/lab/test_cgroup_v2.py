"""The main job on cgroup v2, which the machines that run the other tests may not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.guest import Guest, Result

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LOOK = """
import json, os
from pathlib import Path
group = next(line[3:].strip() for line in open("/proc/self/cgroup") if line.startswith("0::"))
folder = Path("/sys/fs/cgroup" + group)
read = lambda name: (folder / name).read_text().strip()
print(json.dumps({
    "partition": read("cpuset.cpus.partition"), "cpus": sorted(os.sched_getaffinity(0)), "memory": read("memory.max"),
    "uid": os.getuid(),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")],
}))
"""
HOG = "import sys; sys.stderr.write('growing'); data = bytearray(300 << 20)"


@pytest.fixture
def script(guest: Guest) -> Callable[[str], str]:
    """Write a script into the guest; its path."""

    def write(text: str) -> str:
        path = Path("/run/test-script.py")
        guest.run(f"cat > {path} <<'END'\n{text}\nEND")
        return str(path)

    return write


def test_an_application_gets_a_core_and_memory_of_its_own(
    nomx: Callable[..., Result], script: Callable[[str], str]
) -> None:
    out = nomx("run", "--cores", "1", "--memory", "256M", "--user", "nobody", script(LOOK)).out
    seen = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert seen["partition"] in ("root", "isolated")
    assert len(seen["cpus"]) == 1
    assert int(seen["memory"]) == 256 << 20
    assert seen["uid"] == 65534
    assert set(seen["capabilities"]) == {"0" * 16}


def test_out_of_memory_kills_the_application_alone_and_is_told(
    nomx: Callable[..., Result], script: Callable[[str], str]
) -> None:
    result = nomx("run", "--path", "kernel", "--memory", "64M", script(HOG), check=False)
    assert result.rc == 137
    assert "out of memory" in result.out


def test_nothing_remains(guest: Guest, nomx: Callable[..., Result], script: Callable[[str], str]) -> None:
    nomx("run", script("print('done')"))
    left = guest.run("ls /sys/fs/cgroup | grep nomx; ls /run/netns; ip -br link; ls /run/nomx 2>/dev/null", check=False)
    assert left.out.split() == ["lo", "UNKNOWN", "00:00:00:00:00:00", "<LOOPBACK,UP,LOWER_UP>"]
