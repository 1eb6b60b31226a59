"""Messages to bytes and back, on both sides: the size limit, the version, and errors that keep their class. Pure.

A datagram is one JSON envelope (Call or Reply). What does not decode is a ProtocolError that says
where; an error crosses as Failed and comes out as the NomxError that it was.
"""

from __future__ import annotations

from functools import cache

import msgspec

from nomx.api.messages import MAX_MESSAGE, PROTOCOL, Call, Failed, Reply
from nomx.errors import NomxError, ProtocolError

_encoder = msgspec.json.Encoder()

_REMEDY = "use the client of the same nomx release as the daemon"


class _Version(msgspec.Struct):
    """The only field that every version of the protocol has, read before the rest is judged."""

    v: int


_versions = msgspec.json.Decoder(_Version)


@cache  # a side needs one of the two, and each takes a millisecond to make
def _calls() -> msgspec.json.Decoder[Call]:
    return msgspec.json.Decoder(Call)


@cache
def _replies() -> msgspec.json.Decoder[Reply]:
    return msgspec.json.Decoder(Reply)


def prepare_to_decode_replies() -> None:
    """Make the decoder that a client will need, now."""
    _replies()


def encode(envelope: Call | Reply) -> bytes:
    """Return the datagram of an envelope.

    Raises: ProtocolError: it would be longer than MAX_MESSAGE.
    """
    data = _encoder.encode(envelope)
    if len(data) > MAX_MESSAGE:
        reason = f"a message of {len(data)} bytes; the limit is {MAX_MESSAGE}"
        raise ProtocolError(reason=reason, remedy="ask for less at once")
    return data


def decode_call(data: bytes) -> Call:
    """Read a client's datagram.

    Raises: ProtocolError: too long, of another version, or no such call.
    """
    _check(data)
    try:
        return _calls().decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(reason=f"not a call: {error}", remedy=_REMEDY) from error


def decode_reply(data: bytes) -> Reply:
    """Read the daemon's datagram.

    Raises: ProtocolError: too long, of another version, or no such reply.
    """
    _check(data)
    try:
        return _replies().decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(reason=f"not a reply: {error}", remedy=_REMEDY) from error


def _check(data: bytes) -> None:
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(reason=f"a message longer than {MAX_MESSAGE} bytes", remedy=_REMEDY)
    try:
        version = _versions.decode(data).v
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(reason=f"not a message: {error}", remedy=_REMEDY) from error
    if version != PROTOCOL:
        raise ProtocolError(reason=f"protocol version {version}; this side speaks {PROTOCOL}", remedy=_REMEDY)


def failed(error: NomxError) -> Failed:
    """Pack an error for the way; a field that JSON has no type for goes as text."""
    plain = (str, int, float, type(None))
    fields = {name: value if isinstance(value, plain) else str(value) for name, value in error.fields.items()}
    return Failed(kind=type(error).__name__, fields=fields)


def error_of(answer: Failed) -> NomxError:
    """Unpack the error that *answer* carries; one that this release does not know stays readable."""
    kind = _kinds().get(answer.kind)
    if kind is not None:
        try:
            return kind(**answer.fields)
        except KeyError:
            pass  # a field of its template is missing: another release's error of the same name
    return NomxError(reason=f"{answer.kind}: {answer.fields}")


def _kinds() -> dict[str, type[NomxError]]:
    found: dict[str, type[NomxError]] = {}
    waiting = [NomxError]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found
