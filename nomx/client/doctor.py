"""Which paths does this machine give? Told from here without a daemon, and by the daemon where one answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nomx.alloc.ladder import judge
from nomx.api.lease import Verdict
from nomx.api.messages import Welcome
from nomx.client.connection import Client
from nomx.errors import NomxError
from nomx.linux.probe import findings
from nomx.types import Finding


@dataclass(frozen=True)
class Diagnosis:
    """What was found: by this process's own probes, and by the daemon if one answered."""

    features: tuple[Finding, ...]
    paths: tuple[Verdict, ...]
    """Judged with this process's own privileges: what it could be the daemon of."""
    daemon: Welcome | None
    daemon_paths: tuple[Verdict, ...]
    """What the daemon hands out; empty without one."""
    no_daemon: str
    """Why no daemon was asked; empty where one was."""


def diagnose(socket: Path | None = None) -> Diagnosis:
    """Try every feature, and ask the daemon on *socket* (None: the default one) what it hands out."""
    found = findings()
    features, paths = tuple(found.values()), judge(found)
    try:
        with Client.connect(socket) as client:
            return Diagnosis(features, paths, client.hello(), client.doctor(), "")
    except NomxError as error:
        return Diagnosis(features, paths, None, (), str(error))
