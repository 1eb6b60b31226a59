"""`python -m nomx.testing.holder SOCKET SPEC [PROGRAM]`: acquire a lease, report it, run PROGRAM, wait for the end."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from nomx.api import codec
from nomx.api.lease import LeaseSpec
from nomx.client.application import Report
from nomx.client.connection import Client
from nomx.errors import NomxError


def main(socket: str, spec: str, program: str = "") -> None:
    """Hold a lease until stdin ends."""
    try:
        with Client.connect(Path(socket)) as client:
            report = Report(grant=client.acquire(msgspec.json.decode(spec, type=LeaseSpec)))
    except NomxError as error:
        report = Report(failed=codec.failed(error))
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.flush()
    if report.failed is None:
        exec(program, {"__name__": "holder"})
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
