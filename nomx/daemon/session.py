"""One client's conversation: calls in, replies out, strictly by turns, hung up on at the first nonsense.

A client has one call in work at a time, so none can crowd out the others, and what it does wrong
ends its own conversation only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Protocol

from nomx.api import codec
from nomx.api.messages import PROTOCOL, AnswerBody, Body, Call, Failed, Reply, Show, Shown
from nomx.daemon.channel import Channel, Datagram, close_all
from nomx.daemon.service import Answered, Caller
from nomx.daemon.settings import Limits
from nomx.errors import InvalidRequest, MechanismError, NomxError, ProtocolError

_log = logging.getLogger("nomx.daemon.session")


class Host(Protocol):
    """What a conversation needs of the server."""

    async def answer(self, caller: Caller, body: Body, fds: Sequence[int]) -> Answered:
        """Carry out one call and close *fds*."""

    def holds_lease(self, pid: int) -> bool:
        """Return whether process *pid* holds a lease."""

    def end_of(self, lease: str) -> contextlib.AbstractContextManager[asyncio.Future[None]]:
        """Give a future that is done when *lease* ends."""


class Session:
    """The conversation with one admitted client."""

    def __init__(self, host: Host, channel: Channel, caller: Caller, limits: Limits) -> None:
        self._host = host
        self._channel = channel
        self._caller = caller
        self._limits = limits

    async def run(self) -> None:
        """Talk until the client hangs up.

        Raises:
            ProtocolError: it said something that is no call, or nothing for too long.
            TimeoutError, OSError: it took no answer.
        """
        while (datagram := await self._next()) is not None:
            try:
                call = codec.decode_call(datagram.data)
            except ProtocolError:
                close_all(datagram.fds)
                raise
            answered = await self._answer(call, datagram)
            if answered is None:
                return
            try:
                await self._reply(call.id, answered)
            finally:
                close_all(answered.fds)

    async def _next(self) -> Datagram | None:
        """Wait for the next call, as long as the client may be silent."""
        while True:
            try:
                return await self._channel.receive(self._limits.silent_s)
            except TimeoutError:
                if not self._host.holds_lease(self._caller.pid):
                    reason = f"no call for {self._limits.silent_s:.0f} s"
                    raise ProtocolError(reason=reason, remedy="connect when there is something to ask") from None

    async def _answer(self, call: Call, datagram: Datagram) -> Answered | None:
        """Return the answer to a call, an error being one too; None when the client left before it came."""
        try:
            if isinstance(call.body, Show) and call.body.until_ended:
                close_all(datagram.fds)
                return await self._show_when_ended(call.body)
            return await self._host.answer(self._caller, call.body, datagram.fds)
        except NomxError as error:
            level = logging.DEBUG if isinstance(error, InvalidRequest | ProtocolError) else logging.INFO
            _log.log(level, "call failed op=%s uid=%d: %s", type(call.body).__name__, self._caller.uid, error)
            return Answered(codec.failed(error))
        except Exception as error:  # a bug costs one call, not the daemon
            _log.exception("call failed unexpectedly op=%s", type(call.body).__name__)
            hint = "this is a bug of nomx: please report it with the daemon's log"
            operation = f"answering {type(call.body).__name__}"
            return Answered(codec.failed(MechanismError(operation=operation, reason=repr(error), hint=hint)))

    async def _show_when_ended(self, body: Show) -> Answered | None:
        with self._host.end_of(body.lease) as ended:
            answered = await self._host.answer(self._caller, body, ())
            if isinstance(answered.body, Shown) and answered.body.status.state == "ended":
                return answered
            if not await self._ended_first(ended):
                return None
        return await self._host.answer(self._caller, body, ())

    async def _ended_first(self, ended: asyncio.Future[None]) -> bool:
        """Wait for a lease's end or the client's next move, which can only be to hang up; return whether it ended."""
        client = asyncio.ensure_future(self._channel.readable(None))
        try:
            await asyncio.wait({ended, client}, return_when=asyncio.FIRST_COMPLETED)
            return ended.done()
        finally:
            client.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await client

    async def _reply(self, call_id: int, answered: Answered) -> None:
        await self._channel.send(_encoded(call_id, answered.body), answered.fds, self._limits.send_s)


async def part(channel: Channel, error: NomxError, timeout_s: float) -> None:
    """Tell a client why it is hung up on, if it still listens."""
    with contextlib.suppress(OSError, TimeoutError):
        await channel.send(_encoded(0, codec.failed(error)), (), timeout_s)


def _encoded(call_id: int, body: AnswerBody) -> bytes:
    try:
        return codec.encode(Reply(PROTOCOL, call_id, body))
    except ProtocolError as error:
        _log.error("answer too long: %s", error)
        return codec.encode(Reply(PROTOCOL, call_id, Failed("ProtocolError", error.fields)))
