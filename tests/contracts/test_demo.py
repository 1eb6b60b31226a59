"""The demo as a user starts it: a subprocess, whose figures are there and sane, and which leaves nothing behind."""

import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


@pytest.fixture
def demo_instance(instance: str) -> Iterator[str]:
    yield instance
    shutil.rmtree(f"/var/cache/{instance}", ignore_errors=True)  # where nobody's compiled code was kept


def check_row(row: dict[str, Any]) -> None:
    assert 1_000 < row["packets_per_s"] <= row["offered_per_s"] * 1.01
    assert 1 < row["p50_us"] <= row["p99_us"] < 1_000_000
    assert not math.isnan(row["p99_us"])


@pytest.mark.root
@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.feature("veth_xdp")
@pytest.mark.feature("tp_btf")
def test_dev_demo_compares_two_paths(demo_instance: str) -> None:
    command = [ROOT / "dev", "demo", "--seconds", "1", "--instance", demo_instance, "-j"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads(done.stdout)
    soft, kernel = table["rows"]
    assert (soft["path"], kernel["path"]) == ("soft", "kernel")
    for row in (soft, kernel):
        check_row(row)
    assert 0 < soft["syscalls_per_packet"] < kernel["syscalls_per_packet"] <= 3
    assert table["ratio"]["packets_per_s"] == pytest.approx(soft["packets_per_s"] / kernel["packets_per_s"])
    assert "over two links" in table["reach"]
    assert table["user"] == "nobody"
    assert "saturated" in done.stderr


@pytest.mark.root
@pytest.mark.slow
def test_without_root_there_is_the_kernel_path_and_what_root_would_add() -> None:
    command = [*NOBODY, ROOT / "dev", "demo", "--seconds", "1"]
    environment = {**os.environ, "HOME": "/nonexistent"}
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120, env=environment)
    if done.returncode and ("not yours to write in" in done.stderr or "Permission denied" in done.stderr):
        pytest.skip(f"nobody cannot use this checkout: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kernel (ordinary sockets)" in done.stdout
    assert "over loopback" in done.stdout
    assert "sudo ./dev demo" in done.stdout
