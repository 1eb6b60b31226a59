"""One guest for all tests of the lab: fetched and booted when the first of them asks for it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nomx.testing.plugin import required
from tests.lab.guest import Guest, Result
from tests.lab.packages import LabUnavailable

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    """The guest, its modules for soft VFs loaded."""
    if "lab" not in required() and not os.environ.get("NOMX_LAB"):
        pytest.skip("the lab takes minutes: ./dev lab runs it")
    try:
        booted = Guest()
    except LabUnavailable as missing:
        if "lab" in required():
            pytest.fail(f"NOMX_REQUIRE=lab, but {missing}", pytrace=False)
        pytest.skip(str(missing))
    with booted:
        booted.run("modprobe veth")
        yield booted


@pytest.fixture
def nomx(guest: Guest) -> Callable[..., Result]:
    """Run `nomx ARGUMENTS` in the guest, with the checkout and the Python of the host."""

    def run(*arguments: str, check: bool = True) -> Result:
        command = shlex.join([sys.executable, "-m", "nomx_cli.main", *arguments])
        return guest.run(f"cd {CHECKOUT} && PYTHONPATH={CHECKOUT}:{CHECKOUT}/cli {command}", timeout_s=120, check=check)

    return run
