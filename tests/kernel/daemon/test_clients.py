"""Clients as they should not be: each costs itself its conversation, and nobody else anything."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from collections.abc import Iterator

import pytest

from nomx.api import codec
from nomx.api.lease import UmemGeometry
from nomx.api.messages import MAX_MESSAGE, PROTOCOL, Attach, Call, Failed, Hello, Show
from nomx.client.connection import Client
from nomx.errors import InvalidRequest, NomxError, NotGranted, NotPermitted, ProtocolError
from nomx.linux import memory
from nomx.testing.real_daemon import RealDaemon

pytestmark = [pytest.mark.root, pytest.mark.netns]

NOBODY = 65534
HELLO = codec.encode(Call(PROTOCOL, 1, Hello()))


@contextlib.contextmanager
def raw(daemon: RealDaemon) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(10)
        connection.connect(str(daemon.path))
        yield connection


def answered(connection: socket.socket) -> NomxError:
    """Return the error that the daemon parts with, after which it must have hung up."""
    try:
        reply = codec.decode_reply(connection.recv(MAX_MESSAGE))
    except ConnectionResetError:  # it left something unread
        reply = codec.decode_reply(connection.recv(MAX_MESSAGE))
    assert reply.id == 0
    assert isinstance(reply.body, Failed)
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(MAX_MESSAGE) == b""
    return codec.error_of(reply.body)


BAD = {
    "garbage": b"\xff\x00garbage",
    "truncated": HELLO[:-3],
    "empty object": b"{}",
    "wrong version": json.dumps({"v": PROTOCOL + 1, "id": 1, "body": {"op": "hello"}}).encode(),
    "unknown operation": json.dumps({"v": PROTOCOL, "id": 1, "body": {"op": "dance"}}).encode(),
    "unknown field": json.dumps({"v": PROTOCOL, "id": 1, "body": {"op": "hello", "x": 1}}).encode(),
    "wrong type": json.dumps({"v": PROTOCOL, "id": 1, "body": {"op": "show", "lease": 7}}).encode(),
    "deep": b'{"v":1,"id":1,"body":' + b"[" * 30_000,
    "oversized": HELLO + b" " * MAX_MESSAGE,
    "huge number": b'{"v":1,"id":' + b"9" * 5000 + b',"body":{"op":"hello"}}',
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_message_is_answered_and_hung_up_on(daemon: RealDaemon, kind: str) -> None:
    with daemon.client() as good, raw(daemon) as bad:
        good.hello()
        bad.send(BAD[kind])
        assert isinstance(answered(bad), ProtocolError)
        good.hello()


def test_descriptors_are_closed_whatever_they_came_with(daemon: RealDaemon) -> None:
    before = daemon.open_descriptors()
    for data in (
        HELLO,
        BAD["garbage"],
        BAD["oversized"],
        codec.encode(Call(PROTOCOL, 1, Attach("L9", UmemGeometry()))),
    ):
        for count in (1, 16, 17, 253):
            with raw(daemon) as connection, open("/dev/null") as null:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()] * count))]
                connection.sendmsg([data], rights)
                with contextlib.suppress(ConnectionResetError):
                    connection.recv(MAX_MESSAGE)
    with daemon.client() as client:
        client.hello()
        assert daemon.open_descriptors() <= before + 1


def test_a_call_that_fails_does_not_end_the_conversation(daemon: RealDaemon) -> None:
    with daemon.client() as client:
        with pytest.raises(InvalidRequest, match="L9"):
            client.show("L9")
        client.hello()


@pytest.mark.parametrize("daemon", [("--silent", "0.3")], indirect=True)
def test_a_client_that_never_speaks_is_hung_up_on_but_a_holder_is_not(daemon: RealDaemon) -> None:
    program = (
        "from nomx.api.lease import LeaseSpec; from nomx.client.connection import Client; import sys, pathlib, time\n"
        "client = Client.connect(pathlib.Path(sys.argv[1])); client.hello()\n"
        "print('ready', flush=True); sys.stdin.readline(); print(client.hello().instance, flush=True)\n"
    )
    holder = daemon.hold(program=program)
    assert holder.say() == "ready"
    with raw(daemon) as silent:
        assert "no call for" in str(answered(silent))
    assert holder.process.stdin is not None
    holder.process.stdin.write(b"\n")
    holder.process.stdin.flush()
    assert holder.say() == daemon.instance


@pytest.mark.parametrize("daemon", [("--silent", "0.3")], indirect=True)
def test_one_who_waits_for_a_leases_end_is_not_silent(daemon: RealDaemon) -> None:
    holder = daemon.hold()
    with raw(daemon) as waiting, raw(daemon) as silent:
        waiting.send(codec.encode(Call(PROTOCOL, 1, Show(holder.lease, until_ended=True))))
        answered(silent)  # the same time later
        holder.end()
        assert b"ended" in waiting.recv(MAX_MESSAGE)


def test_one_who_waits_and_leaves_is_forgotten(daemon: RealDaemon) -> None:
    holder = daemon.hold()
    before = daemon.open_descriptors()
    for _ in range(5):
        with raw(daemon) as waiting:
            waiting.send(codec.encode(Call(PROTOCOL, 1, Show(holder.lease, until_ended=True))))
    with daemon.client() as client:
        client.hello()
        client.hello()
        assert daemon.open_descriptors() <= before + 1


@pytest.mark.parametrize("daemon", [("--group", "nogroup", "--clients-per-user", "2")], indirect=True)
def test_a_user_can_have_so_many_clients_only(daemon: RealDaemon) -> None:
    def as_nobody() -> Client:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            return daemon.client()
        finally:
            os.seteuid(0)
            os.setegid(0)

    with as_nobody() as one, as_nobody() as two:
        one.hello()
        two.hello()
        with as_nobody() as three, pytest.raises(NotGranted, match="uid 65534"):
            three.hello()
        with daemon.client() as root:
            root.hello()
    with as_nobody() as again:
        again.hello()


def test_one_who_reads_no_answers_disturbs_nobody(daemon: RealDaemon) -> None:
    with raw(daemon) as deaf, daemon.client() as good:
        deaf.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                deaf.send(HELLO)
        for _ in range(20):
            good.hello()


def test_only_the_holder_attaches(daemon: RealDaemon) -> None:
    holder = daemon.hold()
    fd = memory.memfd("umem", UmemGeometry().slice_bytes)
    try:
        with daemon.client() as client, pytest.raises(NotPermitted, match=f"process {holder.pid}"):
            client.attach(holder.lease, UmemGeometry(), fd)
    finally:
        os.close(fd)


ATTACH = """
import os, sys, pathlib
from nomx.api.lease import RingSizes, UmemGeometry
from nomx.client.connection import Client
from nomx.errors import NomxError
from nomx.linux import memory
def attach(umem, size, sealed=True):
    fd = memory.memfd("umem", size) if sealed else os.memfd_create("umem")
    os.ftruncate(fd, size)
    os.posix_fallocate(fd, 0, size)
    with Client.connect(pathlib.Path(sys.argv[1])) as client:
        try:
            print(f"{client.attach('L2', umem, fd).mode.attach}", flush=True)
        except NomxError as error:
            print(f"{type(error).__name__} {error.fields.get('field')}", flush=True)
    os.close(fd)
good = UmemGeometry()
attach(good, good.slice_bytes - 4096)
attach(good, good.slice_bytes, sealed=False)
attach(UmemGeometry(frame_bytes=1000), 1 << 20)
attach(UmemGeometry(frames_per_queue=0), 1 << 20)
attach(UmemGeometry(frames_per_queue=4097), 4097 * 2048)
attach(UmemGeometry(rings=RingSizes(rx=1000)), good.slice_bytes)
attach(UmemGeometry(headroom_bytes=4096), good.slice_bytes)
attach(good, good.slice_bytes)
attach(good, good.slice_bytes)
"""


def test_a_umem_that_cannot_be_is_refused_by_name_and_a_good_one_is_bound_once(daemon: RealDaemon) -> None:
    daemon.hold().end()  # the first lease of a daemon leaves it the loaded tracing programs
    daemon.ended("L1")
    before = daemon.open_descriptors()
    holder = daemon.hold(program=ATTACH)
    assert [holder.say() for _ in range(9)] == [
        "InvalidRequest UMEM",
        "InvalidRequest UMEM",
        "InvalidRequest frame_bytes",
        "InvalidRequest frames_per_queue",
        "InvalidRequest frames_per_queue",
        "InvalidRequest rings.rx",
        "InvalidRequest headroom_bytes",
        "native",
        "NotGranted None",
    ]
    holder.end()
    daemon.ended(holder.lease)
    assert daemon.has_at_most_descriptors(before + 1)
