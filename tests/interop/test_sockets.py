"""The same handlers over ordinary UDP sockets on this host: what a client sees, and what becomes of what goes wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.application import Application, start_on_sockets

SOURCE = """
    import logging
    import sys

    import numpy as np
    import nomx

    logging.basicConfig(level=logging.INFO)

    def echo(message, length):
        return length

    def who(message, length, source_ip, source_port, state):
        if length == 3:
            raise RuntimeError("three bytes")
        if length == 2:
            return nomx.NO_REPLY
        if length == 1:
            return message.size + 1
        state[0] += 1
        for byte in range(4):
            message[byte] = source_ip >> 24 - 8 * byte & 0xFF
        message[4] = source_port >> 8
        message[5] = source_port & 0xFF
        message[6] = state[0] & 0xFF
        return 7

    first, second = map(int, sys.argv[1:])
    nomx.udp(first)(echo)
    nomx.udp(second, state=np.zeros(1, np.int64))(who)
    nomx.serve(address="127.0.0.1")
"""


def free_ports(count: int) -> list[int]:
    """Find ports that nobody has now, always the same while nobody takes them: they are in the compiled code."""
    found: list[int] = []
    for port in range(41_000, 41_900):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[Application, int, int]]:
    first, second = free_ports(2)
    application = start_on_sockets(tmp_path, SOURCE, [str(first), str(second)])
    try:
        application.wait_until_said("serving ports=")
        yield application, first, second
    finally:
        application.close()


@contextlib.contextmanager
def client(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(10)
        opened.connect(("127.0.0.1", port))
        yield opened


def test_every_datagram_is_answered(serving: tuple[Application, int, int]) -> None:
    application, first, second = serving
    with client(first) as one, client(second) as other:
        for payload in (b"", b"hello", bytes(1472)):
            one.send(payload)
            assert one.recv(2000) == payload
        for number in range(150):
            one.send(b"%d" % number)
        assert sorted(int(one.recv(100)) for _ in range(150)) == list(range(150))
        other.send(b"who am I?")
        ip, port = other.getsockname()
        assert other.recv(100) == socket.inet_aton(ip) + port.to_bytes(2, "big") + b"\1"
    assert application.stop() == 0, application.said()
    counted = application.counters()
    assert counted["rx_packets"] == counted["tx_packets"] == counted["replies"] == 154
    assert counted["rx_bytes"] == counted["tx_bytes"] + 2  # nine bytes asked, seven answered


def test_what_is_not_answered_is_counted(serving: tuple[Application, int, int]) -> None:
    application, first, second = serving
    with client(first) as one, client(second) as other:
        for payload in (b"123", b"12", b"1", b"123"):
            other.send(payload)
        one.send(bytes(1473))
        other.send(b"still there?")
        assert len(other.recv(100)) == 7
        one.send(b"and here?")
        assert one.recv(100) == b"and here?"
    assert application.stop(signal.SIGINT) == 0, application.said()
    said, counted = application.said(), application.counters()
    expected = {"handler_errors": 2, "no_reply": 1, "reply_overruns": 1, "drop_udp_length": 1, "replies": 2}
    assert {name: counted[name] for name in expected} == expected
    assert said.count("RuntimeError: three bytes") == 1
    assert said.count("handler who raised: its datagram is dropped") == 1
    assert said.count("handler who claimed a longer reply") == 1


WRONG = """
    import logging

    import numpy as np
    import nomx

    logging.basicConfig(level=logging.INFO)

    @nomx.udp(41997, state=np.zeros(1, np.int64))
    def waits(message, length, state):
        while state[0] == 0:
            pass
        return length

    @nomx.udp(41998)
    def breaks(message, length):
        if length > 0:
            raise OverflowError("too much")
        return length

    nomx.serve(address="127.0.0.1", on_error="stop")
"""


@pytest.fixture
def wrong(tmp_path: Path) -> Iterator[Application]:
    application = start_on_sockets(tmp_path, WRONG)
    try:
        application.wait_until_said("serving ports=")
        yield application
    finally:
        application.close()


def test_an_exception_ends_serving_where_that_is_wanted(wrong: Application) -> None:
    with client(41998) as one:
        one.send(b"?")
        assert wrong.ended() == 1
    assert wrong.said().count("OverflowError: too much") == 1
    assert wrong.counters()["handler_errors"] == 1


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="plain Python in an endless loop ends with the process")
def test_a_handler_that_never_returns_is_told_by_name(wrong: Application) -> None:
    with client(41997) as one:
        one.send(b"?")
        wrong.wait_until_said("handler waits has not returned for 2 s")
    assert wrong.stop() == 1
    assert "handler waits in nomx-sockets has not returned" in wrong.said()


def test_it_sleeps_when_nothing_comes(serving: tuple[Application, int, int]) -> None:
    application, first, _ = serving
    with client(first) as one:
        one.send(b"wake")
        one.recv(100)
    before = _cpu_ticks(application.process.pid)
    with client(first) as one:
        one.settimeout(1)
        with pytest.raises(TimeoutError):
            one.recv(1)
    assert _cpu_ticks(application.process.pid) - before <= 5
    assert application.stop() == 0


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


HANDLER = "import nomx\n@nomx.udp(41999)\ndef echo(message, length):\n    {body}\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import nomx\nnomx.serve()", "InvalidRequest: handlers: none is not acceptable"),
        (HANDLER.format(body="return length"), "registered (echo) but nomx.serve() was never called"),
        (
            HANDLER.format(body="return undefined") + "nomx.serve()",
            "InvalidRequest: handler echo: NameError: name 'undefined' is not defined",
        ),
        (HANDLER.format(body="return length / 2") + "nomx.serve()", "InvalidRequest: handler echo: returning float64"),
        (HANDLER.format(body="pass") + "nomx.serve()", "InvalidRequest: handler echo: returning none"),
        ("import nomx\nnomx.open_device()", "NotSupported: a device of frames is not supported here"),
        (
            HANDLER.format(body="return length") + "nomx.serve(wait='never')",
            "InvalidRequest: wait: 'never' is not acceptable; expected one of adaptive, spin, interrupt",
        ),
    ],
    ids=["no handlers", "never served", "undefined name", "float", "no return", "no device", "no such wait"],
)
def test_mistakes_are_told(source: str, expected: str, tmp_path: Path) -> None:
    if "NUMBA_DISABLE_JIT" in os.environ and expected.startswith("InvalidRequest: handler echo"):
        pytest.skip("nothing is compiled")
    application = start_on_sockets(tmp_path, source)
    try:
        code = application.process.wait(60)
        assert expected in application.said(), application.said()
        assert code == ("never called" not in expected)
    finally:
        application.close()


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        application = start_on_sockets(tmp_path, SOURCE, [str(port), str(port + 1)])
        try:
            assert application.process.wait(60) == 1
            assert f"MechanismError: bind UDP port {port}: Address already in use" in application.said()
        finally:
            application.close()


def test_a_variable_that_names_no_grant_is_told(tmp_path: Path) -> None:
    application = start_on_sockets(tmp_path, "import os, nomx\nos.environ['NOMX_GRANT'] = '999'\nnomx.grant()")
    try:
        assert application.process.wait(60) == 1
        assert "ProtocolError" in application.said()
        assert "start the application with `nomx run`" in application.said()
    finally:
        application.close()


def test_a_signal_while_it_compiles_ends_it_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where nothing was compiled before
    application = start_on_sockets(tmp_path, SOURCE, [str(port) for port in free_ports(2)])
    try:
        application.wait_until_said("for the first time")
        assert application.stop(signal.SIGINT) == 0, application.said()
        assert "stopped before anything was served" in application.said()
        assert "Traceback" not in application.said()
    finally:
        application.close()
