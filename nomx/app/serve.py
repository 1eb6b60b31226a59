"""`nomx.serve`: the registered handlers on the path of the grant, one loop a queue, until a signal says stop.

grant with a device ── one `serve_queue` thread for each XSK
any other, or none ─── one `serve_sockets` thread over ordinary UDP sockets
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import numpy as np

from nomx.api import counters as page
from nomx.api.lease import MAX_QUEUES, DeviceGrant, Grant
from nomx.app import grant as grants
from nomx.app.control import DEFAULT_SPIN_US, Bell, LoopControl
from nomx.app.generate import Program, Progress
from nomx.app.handlers import REGISTRY, Registry
from nomx.app.tuning import SERVING, Tuning
from nomx.app.watch import ON_ERROR, HandlerWatch
from nomx.app.worker import Worker
from nomx.device.xsk import XskDevice, revoked
from nomx.errors import InvalidRequest, MechanismError
from nomx.linux import memory
from nomx.sockets.messages import KernelPorts
from nomx.stack.delivery import States
from nomx.stack.interface import Counters, Interface
from nomx.types import CpuSet
from nomx.wire.ethernet import parse_mac
from nomx.wire.ipv6 import halves

_log = logging.getLogger("nomx.app")

_STOP_DEADLINE_S = 2.0
_DRAIN_DEADLINE_S = 0.05
_LOOK_S = 0.5


def serve(
    *,
    wait: str = "adaptive",
    spin_us: float = DEFAULT_SPIN_US,
    rx_delay_us: float = 0.0,
    tx_delay_us: float = 0.0,
    udp_checksums: bool = True,
    address: str = "",
    progress: Callable[[Progress], None] | None = None,
    on_error: str = "count",
    registry: Registry = REGISTRY,
) -> dict[str, int]:
    """Answer datagrams with the registered handlers until SIGINT or SIGTERM; the counters' totals.

    *wait*: `adaptive` looks at empty rings for *spin_us* and then sleeps, `spin` never sleeps,
    `interrupt` sleeps at once, `busy-poll` (after `nomx run --busy-poll`) polls the device itself. On
    the kernel path, where looking is a system call, `adaptive` is `interrupt`. *rx_delay_us* and
    *tx_delay_us*, 0 to 1,000: how long packets may be held before they are handled, and answers before
    they are sent. `nomx.tune` changes these four while traffic flows (`nomx.app.tuning`).
    *udp_checksums* False neither checks nor makes them. *address*: where the kernel path's sockets
    listen, by default on all of this host's. *progress* is called during a first compile. *on_error*:
    a handler's exception is counted (`count`) and told once, or ends serving (`stop`) and is raised.

    Raises: InvalidRequest: no handler, one that does not compile, a bad argument. NotPermitted,
        MechanismError: a port cannot be had (kernel path), or a handler does not return at the end.
        LeaseRevoked: the device was taken away.
    """
    registry.served = True
    if not len(registry):
        raise InvalidRequest(field="handlers", value="none", expected="a function under @nomx.udp(port) before serve()")
    tuning = Tuning(wait, spin_us, rx_delay_us, tx_delay_us)
    tuning.check()
    if on_error not in ON_ERROR:
        raise InvalidRequest(field="on_error", value=repr(on_error), expected=f"one of {', '.join(ON_ERROR)}")
    grant = grants.load()
    rows = _counter_rows(grant)
    before = page.totals(rows.tobytes())
    program = Program(registry)
    with contextlib.ExitStack() as stack:
        shared = _Shared(grant, program, rows, stack.enter_context(Bell()), progress, on_error)
        workers: list[Worker] = []
        with _until_a_signal() as given_up:
            if grant is not None and grant.device is not None:
                workers = _queue_workers(stack, shared, grant.device, udp_checksums)
            else:
                workers = _socket_workers(stack, shared, address)
        if not given_up.is_set():
            with SERVING.loops([worker.control for worker in workers], tuning):
                _run(workers)
    _raise_what_ended(workers, grant)
    after = page.totals(rows.tobytes())
    return {name: after[name] - before[name] for name in page.NAMES}


def _counter_rows(grant: Grant | None) -> Counters:
    """Map the counters page that the launcher made, or make one that only this process sees: (queues, slots)."""
    shape = (MAX_QUEUES, page.SLOTS)
    if grant is None or grant.counters_fd < 0:
        return np.zeros(shape, np.int64)
    import ctypes

    address = memory.map_shared(grant.counters_fd, page.PAGE_BYTES)
    words = (ctypes.c_int64 * (page.PAGE_BYTES // 8)).from_address(address)
    mapped: Counters = np.ctypeslib.as_array(words).reshape(shape)
    return mapped


@dataclass(frozen=True)
class _Shared:
    """What all loops of one `serve` have in common."""

    grant: Grant | None
    program: Program
    rows: Counters
    bell: Bell
    progress: Callable[[Progress], None] | None
    on_error: str

    def watch(self, number: int, states: States) -> HandlerWatch:
        """Watch the handlers in loop *number*."""
        names = {handler.port: handler.name for handler in self.program.handlers}
        return HandlerWatch(names, self.rows[number], states, self.on_error)


def _queue_workers(
    stack: contextlib.ExitStack, shared: _Shared, device: DeviceGrant, udp_checksums: bool
) -> list[Worker]:
    """Make one worker for each queue of the device, compiled and ready to start."""
    ip6_high, ip6_low = halves(IPv6Address(device.ip6))
    interface = Interface(
        mac=parse_mac(device.mac),
        ip4=int(IPv4Address(device.ip4)),
        mtu_bytes=device.mtu_bytes,
        udp_checksums=int(udp_checksums),
        ip6_high=ip6_high,
        ip6_low=ip6_low,
    )
    assert shared.grant is not None  # it has the device
    program, lease = shared.program, shared.grant.lease
    workers = []
    for number, cpu in enumerate(_cpus(shared.grant, device.queues)):
        opened = stack.enter_context(XskDevice(device, number, lease))
        opened.receive_with_all()
        control = LoopControl([opened.queue.fd], shared.bell, busy_polled=device.mode.busy_poll)
        states = program.states()
        arguments = (opened.queue, interface, control.addresses, shared.rows[number], states)
        program.compile("run_queue", arguments, shared.progress)
        loop = _drained_at_the_end(partial(program.run_queue, *arguments), control, opened)
        workers.append(Worker(f"nomx-queue-{number}", loop, control, shared.watch(number, states), cpu))
    _log.info("serving lease=%s ip4=%s ports=%s queues=%d", lease, device.ip4, program.ports, device.queues)
    return workers


def _drained_at_the_end(run: Callable[[], int], control: LoopControl, device: XskDevice) -> Callable[[], int]:
    def loop() -> int:
        code = run()
        if control.stopped and code == 0:
            _drain(device)
        return code

    return loop


def _drain(device: XskDevice) -> None:
    """See the last answers off before the rings are unmapped."""
    deadline = time.monotonic() + _DRAIN_DEADLINE_S
    while device.flush() and time.monotonic() < deadline:
        time.sleep(0)


def _socket_workers(stack: contextlib.ExitStack, shared: _Shared, address: str) -> list[Worker]:
    """Make the kernel path's worker, compiled and ready to start."""
    program, grant = shared.program, shared.grant
    if grant is None:
        _log.warning("no grant: serving ports %s with kernel sockets (`nomx run` gives a device)", program.ports)
    ports = KernelPorts(program.ports, address)
    stack.callback(ports.close)
    control = LoopControl(ports.fds(), shared.bell, looking_calls=True)
    states = program.states()
    arguments = (ports.sockets, control.addresses, shared.rows[0], states)
    program.compile("run_sockets", arguments, shared.progress)
    _log.info("serving ports=%s on kernel sockets", program.ports)
    cpu = _cpus(grant, 1)[0] if grant is not None else None
    loop = partial(program.run_sockets, *arguments)
    return [Worker("nomx-sockets", loop, control, shared.watch(0, states), cpu)]


def _cpus(grant: Grant, workers: int) -> list[int | None]:
    """Choose a CPU for each worker, where the lease has exclusive ones; the cgroup keeps it to the others anyway."""
    own = sorted(CpuSet.parse(grant.cpus)) if grant.exclusive else []
    return [own[number % len(own)] if own else None for number in range(workers)]


def _run(workers: Sequence[Worker]) -> None:
    """Start the workers, wait until a signal or their own end, and stop them."""
    done = threading.Event()
    with _signals_call(lambda *_: done.set()):
        for worker in workers:
            worker.thread.start()
        while not done.is_set() and not any(worker.ended.is_set() for worker in workers):
            done.wait(_LOOK_S)
            for worker in workers:
                worker.look()
    for worker in workers:
        worker.control.stop()
    deadline = time.monotonic() + _STOP_DEADLINE_S
    for worker in workers:
        worker.thread.join(max(0.0, deadline - time.monotonic()))
        worker.look()
    stuck = [worker for worker in workers if worker.thread.is_alive()]
    if stuck:
        where = ", ".join(f"handler {worker.busy_in or '?'} in {worker.thread.name}" for worker in stuck)
        raise MechanismError(
            operation="stop serving",
            reason=f"{where} has not returned within {_STOP_DEADLINE_S:.0f} s",
            hint="look for an endless loop in it",
        )


@contextlib.contextmanager
def _until_a_signal() -> Iterator[threading.Event]:
    """Do what takes long, but give it up at SIGINT or SIGTERM, an end as any other: then the event is set."""
    given_up = threading.Event()

    def give_up(*_: object) -> None:
        given_up.set()
        raise KeyboardInterrupt

    try:
        with _signals_call(give_up):
            yield given_up
    except BaseException:
        if not given_up.is_set():  # else it may be the compiler's, which was interrupted
            raise
        _log.info("stopped before anything was served")


@contextlib.contextmanager
def _signals_call(call: Callable[..., None]) -> Iterator[None]:
    """Have SIGINT and SIGTERM call *call*, where this thread may: in another, only the workers' end does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, call) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _raise_what_ended(workers: Sequence[Worker], grant: Grant | None) -> None:
    for worker in workers:
        if worker.failure is not None:
            raise worker.failure
        if worker.gone:
            device = grant.device if grant is not None else None
            raise revoked(grant.lease if grant else "", device.ifname if device else "kernel sockets", worker.gone)
