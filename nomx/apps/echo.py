"""A UDP echo server (RFC 862): `nomx run -m nomx.apps.echo`, or `python -m nomx.apps.echo` on kernel sockets."""

from __future__ import annotations

import argparse
import logging

import nomx

DEFAULT_PORT = 7000


def echo(message, length):  # type: ignore[no-untyped-def] # noqa: ARG001 - a handler takes what it is given, untyped
    """Answer with the request."""
    return length


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="nomx.apps.echo", description="Answer every UDP datagram with itself.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"UDP port (default {DEFAULT_PORT})")
    parser.add_argument("--wait", default="adaptive", help="adaptive, spin, interrupt or busy-poll (default adaptive)")
    parser.add_argument("--rx-delay", type=float, default=0, metavar="US", help="hold packets for so long (default 0)")
    parser.add_argument("--tx-delay", type=float, default=0, metavar="US", help="hold answers for so long (default 0)")
    parser.add_argument("--no-checksums", action="store_true", help="neither check nor make UDP checksums")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    nomx.udp(options.port)(echo)
    nomx.serve(
        wait=options.wait,
        rx_delay_us=options.rx_delay,
        tx_delay_us=options.tx_delay,
        udp_checksums=not options.no_checksums,
    )


if __name__ == "__main__":
    main()
