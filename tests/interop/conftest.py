"""A switch, an application's soft VF on it, and a Linux host beside it."""

from __future__ import annotations

from tests.kernel.conftest import wired

__all__ = ["wired"]
