"""`python -m nomx.daemon`: the daemon's command line, which `nomx daemon` and the systemd unit run."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from nomx.api import codec
from nomx.daemon.run import run, tell
from nomx.daemon.settings import DEFAULT_INSTANCE, DEFAULT_PREFIX, Limits, Settings
from nomx.errors import InvalidRequest, NomxError

_FAILED, _USAGE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; the exit code."""
    options = _parser().parse_args(arguments)
    level = logging.DEBUG if options.verbose else logging.WARNING if options.embedded else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("nomx").setLevel(level)  # not the root logger's: netlink's library tells each message
    starter = socket.socket(fileno=options.starter_fd) if options.starter_fd is not None else None
    try:
        settings = _settings(options)
        if options.embedded:
            os.chdir("/")  # it may outlive who started it, whose directory is not to be kept busy
        run(settings, starter)
    except NomxError as error:
        if starter is None:
            logging.getLogger("nomx.daemon").error("%s", error)
        else:
            tell(starter, codec.failed(error))
        return _USAGE if isinstance(error, InvalidRequest) else _FAILED
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        instance=options.instance,
        run_directory=options.run_directory,
        socket=options.socket,
        group=options.group,
        prefix_text=options.prefix,
        mtu_bytes=options.mtu,
        embedded=options.embedded,
        limits=Limits(clients_per_uid=options.clients_per_user, silent_s=options.silent),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nomxd", description="Hand out cores, memory and devices; carry no packet.")
    parser.add_argument("--instance", default=DEFAULT_INSTANCE, help="name from which every kernel object's derives")
    parser.add_argument("--run-directory", type=Path, help="journal and lock (default: /run/INSTANCE)")
    parser.add_argument("--socket", type=Path, help="control socket (default: RUN_DIRECTORY/nomxd.sock)")
    parser.add_argument("--group", help="members of this group may ask for leases (default: root only)")
    parser.add_argument("--prefix", default=DEFAULT_PREFIX, help="private IPv4 prefix of the switch")
    parser.add_argument("--mtu", type=int, default=1500, metavar="BYTES", help="MTU of its ports")
    parser.add_argument(
        "--clients-per-user", type=int, default=Limits.clients_per_uid, metavar="N", help="at a time; root has no limit"
    )
    parser.add_argument(
        "--silent", type=float, default=Limits.silent_s, metavar="SECONDS", help="hang up on who asks nothing so long"
    )
    parser.add_argument("--embedded", action="store_true", help="live only as long as the starter or a lease")
    parser.add_argument("--starter-fd", type=int, metavar="FD", help="socket to the starter of an embedded daemon")
    parser.add_argument("--verbose", action="store_true", help="log each step")
    return parser


if __name__ == "__main__":
    sys.exit(main())
