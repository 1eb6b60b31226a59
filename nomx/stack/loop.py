"""The serve loop of one queue: frames come out of the rx ring, are answered in place, and go into tx or fill ring.

    completion → fill    frames that were sent receive again
    rx → tx              answered
    rx → fill            not answered, and counted why

All it knows is in registers and in the rings themselves, so it can be left and entered again at
any round: that is how a handler's exception reaches Python. It allocates nothing and holds no lock.
What it may hold back, and for how long, is the matter of `nomx.stack.batching`.
"""

from __future__ import annotations

from typing import NamedTuple

from nomx.compiled import inlined, int64
from nomx.device.queue import XskQueue, push, recycle, rouse, unsent
from nomx.ring.atomics import bytes_at, load_relaxed_i64
from nomx.ring.calls import monotonic_ns, poll, sleep_ns
from nomx.ring.rings import (
    Cursor,
    consume_from,
    get_packet,
    look,
    needs_wakeup,
    peek,
    produce_from,
    put_frame,
    put_packet,
    release,
    reserve,
    room,
    submit,
)
from nomx.stack.batching import (
    Delays,
    Held,
    is_holding,
    must_send,
    nothing_held,
    read_delays,
    sent_all,
    stage,
    take_in,
    time_left,
)
from nomx.stack.counted import EMPTY_POLLS, POLLS, RX_BYTES, RX_PACKETS, TX_BYTES, TX_FULL, TX_PACKETS, WAITS, WAKEUPS
from nomx.stack.delivery import PENDING, RAISED, Dispatch, States, deliver
from nomx.stack.guard import raise_pending
from nomx.stack.interface import DATAGRAM, Counters, Interface, receive

STOPPED = 0
"""Why the loop ended: it was told to. A negative number is the -errno of a device that has gone."""

SPIN = -1
"""The *spin_ns* of a loop that never sleeps."""

_NAP_NS = 80_000
"""What is left of a delay at least for a sleep to be worth it."""
_NAP_EARLIER_NS = 40_000
"""How much earlier to wake: what falling asleep and waking take, where the worker has taken the timer's slack away."""

_LIVENESS_MS = 1000
"""How long a sleep lasts at most, for an AF_XDP socket does not wake its sleepers when its device goes."""


class Control(NamedTuple):
    """Words that the main thread writes while the loop runs, by address, and the loop's own scratch memory."""

    stop: int
    """Set to other than 0, the loop ends."""
    spin_ns: int
    """How long to look at empty rings before sleeping in poll(2): 0 at once, SPIN never."""
    rx_delay_ns: int
    """How long packets may be held before they are handled."""
    tx_delay_ns: int
    """How long answers may be held before they are sent."""
    busy_poll: int
    """Other than 0, an empty ring is looked at by a call that polls the device, again and again."""
    pollfds: int
    """Two struct pollfd: the XSK, and an eventfd that wakes the sleeper."""
    timespec: int


class Cursors(NamedTuple):
    """How far the loop is in each ring."""

    rx: Cursor
    tx: Cursor
    fill: Cursor
    completion: Cursor


@inlined
def begin(queue: XskQueue) -> Cursors:
    """Take up where the rings stand."""
    return Cursors(
        consume_from(queue.rx), produce_from(queue.tx), produce_from(queue.fill), consume_from(queue.completion)
    )


@inlined
def serve_queue(
    queue: XskQueue, interface: Interface, control: Control, counters: Counters, states: States, dispatch: Dispatch
) -> int:
    """Serve until told to stop; STOPPED, or the -errno of a device that has gone.

    Raises: whatever a handler raises; every frame is accounted for, and the loop can be entered again.
    """
    cursors = begin(queue)
    held = nothing_held()
    idle_since = int64(0)
    ended = int64(STOPPED)
    while ended == STOPPED and load_relaxed_i64(control.stop) == 0:
        delays = read_delays(control.rx_delay_ns, control.tx_delay_ns)
        now = monotonic_ns(control.timespec) if delays.rx_ns + delays.tx_ns > 0 else int64(0)
        cursors, held, count, ended = serve_burst(
            queue, cursors, held, delays, now, interface, counters, states, dispatch
        )
        if count > 0:
            idle_since = int64(0)
        elif is_holding(held):
            idle_since = int64(0)
            ended = _push_left(queue, cursors.tx, counters)
            nap(control, time_left(held, delays, now))
        else:
            idle_since, ended = _rest(queue, cursors.tx, control, counters, idle_since)
    if held.staged > 0:
        submit(queue.tx, cursors.tx, held.staged)
    if ended == RAISED:
        raise_pending(states[PENDING])
    return ended


@inlined
def serve_burst(
    queue: XskQueue,
    cursors: Cursors,
    held: Held,
    delays: Delays,
    now: int,
    interface: Interface,
    counters: Counters,
    states: States,
    dispatch: Dispatch,
) -> tuple[Cursors, Held, int, int]:
    """Answer the packets that are due, at most a burst: (cursors, held, how many, STOPPED or RAISED or -errno).

    *now* (ns) is read only where *delays* let something be held.
    """
    counters[POLLS] += 1
    completion, fill = recycle(queue, cursors.completion, cursors.fill)
    rx = look(queue.rx, cursors.rx) if delays.rx_ns > 0 else peek(queue.rx, cursors.rx)
    held, count = take_in(held, room(rx), queue.burst, delays.rx_ns, now)
    tx = cursors.tx
    outcome = int64(STOPPED)
    full = False
    if count > 0:
        tx = reserve(queue.tx, tx, held.staged + count)
        full = room(tx) < held.staged + count
        if full:
            counters[TX_FULL] += 1
            count = room(tx) - held.staged
        done, answers, outcome = _answer(
            queue, rx, tx.position + held.staged, fill, count, interface, counters, states, dispatch
        )
        rx = release(queue.rx, rx, done)
        fill = submit(queue.fill, fill, done - answers)
        held = stage(held, answers, now)
    else:
        counters[EMPTY_POLLS] += 1
    gone = int64(STOPPED)
    if must_send(held, queue.burst, delays.tx_ns, now) or outcome == RAISED or full:
        tx = submit(queue.tx, tx, held.staged)
        held = sent_all(held)
        calls, gone = push(queue, tx)
        counters[WAKEUPS] += calls
    return Cursors(rx, tx, fill, completion), held, count, int64(RAISED) if outcome == RAISED else gone


@inlined
def _answer(
    queue: XskQueue,
    rx: Cursor,
    tx_position: int,
    fill: Cursor,
    count: int,
    interface: Interface,
    counters: Counters,
    states: States,
    dispatch: Dispatch,
) -> tuple[int, int, int]:
    """Answer *count* packets, or up to one that raises, into tx from *tx_position* on: (done, answers, outcome)."""
    done = sent = rx_bytes = tx_bytes = int64(0)
    outcome = int64(0)
    while done < count and outcome != RAISED:
        address, length = get_packet(queue.rx, rx.position + done)
        frame = bytes_at(queue.frames + address, queue.frame_bytes - (address & (queue.frame_bytes - 1)))
        outcome = receive(frame, length, interface, counters)
        if outcome == DATAGRAM:
            outcome = deliver(frame, interface, counters, dispatch, states)
        if outcome > 0:
            put_packet(queue.tx, tx_position + sent, address, outcome)
            sent += 1
            tx_bytes += outcome
        else:  # the kernel takes any address in a frame for the frame
            put_frame(queue.fill, fill.position + done - sent, address)
        rx_bytes += length
        done += 1
    counters[RX_PACKETS] += done
    counters[RX_BYTES] += rx_bytes
    counters[TX_PACKETS] += sent
    counters[TX_BYTES] += tx_bytes
    return done, sent, outcome


@inlined
def _rest(queue: XskQueue, tx: Cursor, control: Control, counters: Counters, idle_since: int) -> tuple[int, int]:
    """Do what an empty rx ring leaves time for; (since when it is empty, STOPPED or -errno)."""
    gone = _push_left(queue, tx, counters)
    if gone != STOPPED:
        return idle_since, gone
    if needs_wakeup(queue.fill):
        counters[WAKEUPS] += 1
        gone = rouse(queue)
        if gone != 0:
            return idle_since, gone
    if load_relaxed_i64(control.busy_poll) != 0:
        counters[WAKEUPS] += 1
        return int64(0), rouse(queue)
    spin_ns = load_relaxed_i64(control.spin_ns)
    if spin_ns < 0:
        return idle_since, int64(STOPPED)
    now = monotonic_ns(control.timespec)
    if idle_since == 0:
        idle_since = now
    if now - idle_since < spin_ns:
        return idle_since, int64(STOPPED)
    counters[WAITS] += 1
    ready = poll(control.pollfds, 2, _LIVENESS_MS)
    return int64(0), rouse(queue) if ready == 0 else int64(STOPPED)


@inlined
def _push_left(queue: XskQueue, tx: Cursor, counters: Counters) -> int:
    """Push what the kernel did not take the time before; STOPPED or -errno."""
    calls = gone = int64(0)
    if unsent(queue.tx, tx) > 0:
        calls, gone = push(queue, tx)
    counters[WAKEUPS] += calls
    return gone


@inlined
def nap(control: Control, left_ns: int) -> None:
    """Sleep while everything there is may be held, unless the loop is to spin; wakes early rather than late."""
    if left_ns > _NAP_NS and load_relaxed_i64(control.spin_ns) >= 0:
        sleep_ns(control.timespec, left_ns - _NAP_EARLIER_NS)
