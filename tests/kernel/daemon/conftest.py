"""A real daemon of the test's own."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomx.testing.real_daemon import RealDaemon

NOBODY = 65534


@pytest.fixture
def daemon(instance: str, request: pytest.FixtureRequest) -> Iterator[RealDaemon]:
    """A running daemon; a test gives it options by parametrizing it indirectly."""
    real = RealDaemon(instance, getattr(request, "param", ()))
    real.start()
    try:
        yield real
    finally:
        real.end()
        shutil.rmtree(Path("/var/cache", instance), ignore_errors=True)


@pytest.fixture
def cores_to_give() -> Iterator[None]:
    """Exclusive cores are this machine's, not a test session's: one test at a time hands them out."""
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(open("/run/lock/nomx-test-cores", "w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
