"""The serve loop of the kernel path: the same handlers over ordinary UDP sockets, 64 datagrams a system call each way.

The baseline that every other path is compared with, so it is as good as sockets can be: compiled,
in batches, asleep when there is nothing to do.
"""

from __future__ import annotations

import errno

from nomx.compiled import inlined, int64
from nomx.ring.atomics import bytes_at, load_i64, load_relaxed_i64, load_u32, store_i64
from nomx.ring.calls import monotonic_ns, poll, receive_messages, send_messages
from nomx.sockets.messages import BATCH, MESSAGE, NAME_BYTES, VECTOR, Sockets, offset_of
from nomx.stack.counted import (
    DROP_UDP_LENGTH,
    EMPTY_POLLS,
    POLLS,
    RX_BYTES,
    RX_PACKETS,
    TX_BYTES,
    TX_ERRORS,
    TX_PACKETS,
    WAITS,
    WAKEUPS,
)
from nomx.stack.delivery import PENDING, RAISED, Dispatch, States, ask
from nomx.stack.guard import raise_pending
from nomx.stack.interface import Counters
from nomx.stack.loop import STOPPED, Control, nap
from nomx.wire.words import load16, load32

_MESSAGE_BYTES = MESSAGE.itemsize
_NAME = offset_of(MESSAGE, "name")
_FLAGS = offset_of(MESSAGE, "flags")
_LENGTH = offset_of(MESSAGE, "length")
_VECTOR_BYTES = VECTOR.itemsize
_MSG_TRUNC = 0x20
_HEADERS_BYTES = 42
"""Ethernet, IPv4 and UDP: counted with each datagram, so that bytes mean the same on every path."""

_FOR_EVER_MS = -1
_BROKEN = (-errno.EBADF, -errno.ENOTSOCK, -errno.ENETDOWN)


@inlined
def serve_sockets(sockets: Sockets, control: Control, counters: Counters, states: States, dispatch: Dispatch) -> int:
    """Serve until told to stop; STOPPED, or the -errno of a socket that works no more.

    Raises: whatever a handler raises; the loop can be entered again.
    """
    idle_since = int64(0)
    ended = int64(STOPPED)
    while ended == STOPPED and load_relaxed_i64(control.stop) == 0:
        counters[POLLS] += 1
        received = int64(0)
        for number in range(sockets.number):
            if ended == STOPPED:
                count, ended = _serve_one(sockets, number, counters, states, dispatch)
                received += count
        if received > 0:
            idle_since = int64(0)
            if received < BATCH:
                _hold(control)
        elif ended == STOPPED:
            counters[EMPTY_POLLS] += 1
            idle_since = _rest(sockets, control, counters, idle_since)
    if ended == RAISED:
        raise_pending(states[PENDING])
    return ended


@inlined
def _rest(sockets: Sockets, control: Control, counters: Counters, idle_since: int) -> int:
    """Sleep until a datagram comes, once nothing has for as long as `spin_ns` says; since when that is."""
    spin_ns = load_relaxed_i64(control.spin_ns)
    if spin_ns < 0:
        return idle_since
    now = monotonic_ns(control.timespec)
    if idle_since == 0:
        idle_since = now
    if now - idle_since < spin_ns:
        return idle_since
    counters[WAITS] += 1
    poll(control.pollfds, sockets.number + 1, _FOR_EVER_MS)
    _hold(control)
    return int64(0)


@inlined
def _hold(control: Control) -> None:
    """Let datagrams gather in the sockets for as long as the receive delay says: whichever comes meanwhile waits less.

    There is nothing to hold on the way out: the answers of a batch leave together.
    """
    delay_ns = load_relaxed_i64(control.rx_delay_ns)
    if delay_ns == 0:
        return
    begun = monotonic_ns(control.timespec)
    nap(control, delay_ns)
    while monotonic_ns(control.timespec) - begun < delay_ns and load_relaxed_i64(control.stop) == 0:
        pass


@inlined
def _serve_one(
    sockets: Sockets, number: int, counters: Counters, states: States, dispatch: Dispatch
) -> tuple[int, int]:
    """Answer what is in one socket, one batch of it: (datagrams received, STOPPED, RAISED or -errno)."""
    fd = load_i64(sockets.fds + (number << 3))
    port = load_i64(sockets.ports + (number << 3))
    received = receive_messages(fd, sockets.received, BATCH)
    if received <= 0:
        return int64(0), received if received in _BROKEN else int64(STOPPED)
    answers = rx_bytes = tx_bytes = done = int64(0)
    ended = int64(STOPPED)
    while done < received:  # to the end, whatever is raised: what was received is nowhere else
        message = sockets.received + done * _MESSAGE_BYTES
        length = load_u32(message + _LENGTH)
        rx_bytes += length + _HEADERS_BYTES
        reply_bytes = int64(-1)
        if load_u32(message + _FLAGS) & _MSG_TRUNC:
            counters[DROP_UDP_LENGTH] += 1
        else:
            reply_bytes = _answer(sockets, done, port, length, counters, states, dispatch)
        if reply_bytes >= 0:
            _address(sockets, answers, done, reply_bytes)
            answers += 1
            tx_bytes += reply_bytes + _HEADERS_BYTES
        elif reply_bytes == RAISED:
            ended = int64(RAISED)
        done += 1
    counters[RX_PACKETS] += received
    counters[RX_BYTES] += rx_bytes
    counters[TX_BYTES] += tx_bytes
    _send(fd, sockets.answers, answers, counters)
    return received, ended


@inlined
def _answer(
    sockets: Sockets, number: int, port: int, length: int, counters: Counters, states: States, dispatch: Dispatch
) -> int:
    """Have datagram *number* answered in its buffer: the bytes of the reply, RAISED, or -1 for none."""
    message = bytes_at(sockets.buffers + number * sockets.capacity, sockets.capacity)
    name = bytes_at(sockets.names + number * NAME_BYTES, NAME_BYTES)  # struct sockaddr_in
    return ask(dispatch, port, message, length, load32(name, 4), load16(name, 2), states, counters)


@inlined
def _address(sockets: Sockets, answer: int, number: int, length: int) -> None:
    """Make answer number *answer* send *length* bytes of buffer *number* to where they came from."""
    store_i64(sockets.answers + answer * _MESSAGE_BYTES + _NAME, sockets.names + number * NAME_BYTES)
    vector = sockets.vectors + answer * _VECTOR_BYTES
    store_i64(vector, sockets.buffers + number * sockets.capacity)
    store_i64(vector + 8, length)


@inlined
def _send(fd: int, messages: int, count: int, counters: Counters) -> None:
    """Send *count* datagrams, waiting for room in the socket; one that the kernel refuses is counted and left out."""
    done = int64(0)
    while done < count:
        sent = send_messages(fd, messages + done * _MESSAGE_BYTES, count - done)
        counters[WAKEUPS] += 1
        if sent > 0:
            done += sent
            counters[TX_PACKETS] += sent
        elif sent != -errno.EINTR:
            done += 1
            counters[TX_ERRORS] += 1
