"""Settings: what derives from the instance, and values that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomx.daemon.settings import Settings
from nomx.errors import InvalidRequest


def test_everything_derives_from_the_instance():
    settings = Settings(instance="mine")
    assert settings.socket_path == Path("/run/mine/nomxd.sock")
    assert settings.journal_path.parent == settings.lock_path.parent == settings.directory == Path("/run/mine")


def test_the_socket_can_be_elsewhere_and_the_journal_stays():
    settings = Settings(socket=Path("/tmp/x.sock"))
    assert settings.socket_path == Path("/tmp/x.sock")
    assert settings.journal_path == Path("/run/nomx/journal.sqlite")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("instance", {"instance": "a/b"}),
        ("prefix", {"prefix_text": "1.2.3.4"}),
        ("mtu", {"mtu_bytes": 9000}),
        ("system cores", {"system_cores": 0}),
    ],
)
def test_a_value_that_cannot_be_is_named(field, values):
    with pytest.raises(InvalidRequest, match=f"^{field}:"):
        Settings(**values)
