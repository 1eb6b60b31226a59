"""From a correct datagram to its port's handler, and from what the handler returns to a frame to send.

The half of the stack that is compiled anew for each set of handlers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nomx.compiled import inlined
from nomx.stack.counted import DROP_NO_HANDLER, HANDLER_ERRORS, NO_REPLY, REPLIES, REPLY_OVERRUNS
from nomx.stack.guard import NOTHING_PENDING, guarded
from nomx.stack.interface import NOTHING, Counters, Interface, finish_datagram_ipv6, finish_reply
from nomx.wire import ethernet, ipv4, ipv6, udp
from nomx.wire.words import Frame

RAISED = -2
"""No answer, and the handler's exception is pending in *states*."""

PENDING, RUNNING, RAISER, OVERRUNNER = 0, 1, 2, 3
"""Where in *states* are: the pending exception; the port whose handler runs now, 0 when none does; the
port whose handler raised last; and the port whose handler last claimed a longer reply than there is room for."""

FIRST_OWN = 4
"""Where in *states* the addresses of the handlers' own arrays begin."""

IPV6_SENDER = -(1 << 63)
"""The bit that says that a sender's address is the low half of an IPv6 address."""

NO_HANDLER = -(1 << 31)
"""What a dispatch returns for a port that nobody serves."""

States: TypeAlias = NDArray[np.int64]
"""What the handlers of one queue work on: FIRST_OWN words of ours, then one address for each."""

Dispatch: TypeAlias = Callable[..., int]
"""Calls the handler of a port: (port, message, length, source_ip, source_port, states) → bytes of reply,
negative for none, NO_HANDLER. Made by `nomx.app.generate`."""


@inlined
def deliver(frame: Frame, interface: Interface, counters: Counters, dispatch: Dispatch, states: States) -> int:
    """Let the handler of its port answer the DATAGRAM in *frame*, in place: a frame's length, NOTHING or RAISED."""
    ip_at = ethernet.HEADER_BYTES
    over_ipv6 = ethernet.ethertype(frame) == ethernet.TYPE_IPV6
    header = ipv6.HEADER_BYTES if over_ipv6 else ipv4.header_bytes(frame, ip_at)
    at = ip_at + header
    message = frame[at + udp.HEADER_BYTES : ip_at + interface.mtu_bytes]
    sender_port = udp.source_port(frame, at)
    reply_bytes = ask(
        dispatch,
        udp.destination_port(frame, at),
        message,
        udp.length_bytes(frame, at) - udp.HEADER_BYTES,
        ipv6_sender(frame, ip_at) if over_ipv6 else ipv4.source(frame, ip_at),
        sender_port,
        states,
        counters,
    )
    if reply_bytes < 0:
        return RAISED if reply_bytes == RAISED else NOTHING
    length = udp.HEADER_BYTES + reply_bytes
    udp.make_reply(frame, at, length)
    if over_ipv6:
        return finish_datagram_ipv6(frame, length, interface)
    if interface.udp_checksums != 0:
        udp.write_checksum(frame, ip_at, at, length)
    return finish_reply(frame, header, header + length, interface)


@inlined
def ipv6_sender(frame: Frame, ip_at: int) -> int:
    """Return what a handler is told of an IPv6 sender: the low half of its address, made negative.

    So it is never an IPv4 address, and one for each host of a link.
    """
    return ipv6.source_low(frame, ip_at) | IPV6_SENDER


@inlined
def ask(
    dispatch: Dispatch,
    port: int,
    message: Frame,
    length: int,
    sender_ip: int,
    sender_port: int,
    states: States,
    counters: Counters,
) -> int:
    """Call the handler of *port*, count what came of it: the bytes of its reply, RAISED, or -1 for none."""
    states[RUNNING] = port
    pending, reply_bytes = guarded(dispatch, port, message, length, sender_ip, sender_port, states)
    states[RUNNING] = 0
    if pending != NOTHING_PENDING:
        states[PENDING] = pending
        states[RAISER] = port
        counters[HANDLER_ERRORS] += 1
        return RAISED
    reason = REPLIES
    if reply_bytes == NO_HANDLER:
        reason = DROP_NO_HANDLER
    elif reply_bytes < 0 or sender_port == 0:  # a source port of 0 means that no answer is wanted (RFC 768)
        reason = NO_REPLY
    elif reply_bytes > message.size:
        reason = REPLY_OVERRUNS
        states[OVERRUNNER] = port
    counters[reason] += 1
    return reply_bytes if reason == REPLIES else -1
