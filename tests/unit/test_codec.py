"""The codec: what goes in comes out, and what is no message is refused in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomx import errors
from nomx.api import codec
from nomx.api.lease import LeaseSpec, UmemGeometry
from nomx.api.messages import (
    MAX_MESSAGE,
    PROTOCOL,
    Acquire,
    Attach,
    Call,
    Done,
    Failed,
    Hello,
    Leases,
    Planned,
    Plug,
    Release,
    Reply,
    Show,
)
from nomx.errors import InvalidRequest, LeaseEnded, NomxError, NotGranted, ProtocolError

BODIES = [
    Hello(),
    Acquire(LeaseSpec(name="x", cores=2, require=("zerocopy",)), dry_run=True),
    Attach("L1", UmemGeometry()),
    Release("L1", kill=True),
    Leases(after="L7"),
    Show("L2", until_ended=True),
    Plug("eth0", "10.77.0.4"),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_call_comes_out_as_it_went_in(body):
    call = Call(PROTOCOL, 3, body)
    assert codec.decode_call(codec.encode(call)) == call


def test_a_reply_comes_out_as_it_went_in():
    reply = Reply(PROTOCOL, 3, Planned("soft", ("one", "two")))
    assert codec.decode_reply(codec.encode(reply)) == reply


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_a_protocol_error(data):
    with pytest.raises(ProtocolError):
        codec.decode_call(data)


@given(st.sampled_from(BODIES), st.integers(0, 300))
def test_a_truncated_call_is_a_protocol_error(body, cut):
    data = codec.encode(Call(PROTOCOL, 1, body))
    if cut < len(data):
        with pytest.raises(ProtocolError):
            codec.decode_call(data[:cut])


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"v": 99, "id": 1, "body": {"op": "from the future"}}, "version 99"),
        ({"v": PROTOCOL, "id": 1, "body": {"op": "dance"}}, "dance"),
        ({"v": PROTOCOL, "id": 1, "body": {"op": "hello", "extra": 1}}, "extra"),
        ({"v": PROTOCOL, "id": "one", "body": {"op": "hello"}}, "id"),
        ({"id": 1, "body": {"op": "hello"}}, "v"),
        ([1, 2], "array"),
    ],
)
def test_a_wrong_message_is_told_what_is_wrong_with_it(message, told):
    with pytest.raises(ProtocolError, match=told):
        codec.decode_call(json.dumps(message).encode())


def test_deep_nesting_is_refused_and_not_followed():
    with pytest.raises(ProtocolError):
        codec.decode_call(b'{"v":1,"id":1,"body":' + b"[" * 30_000)


def test_a_message_beyond_the_limit_is_neither_sent_nor_read():
    with pytest.raises(ProtocolError, match="limit"):
        codec.encode(Reply(PROTOCOL, 1, Planned("soft", ("x" * MAX_MESSAGE,))))
    with pytest.raises(ProtocolError, match="longer"):
        codec.decode_call(b" " * (MAX_MESSAGE + 1))


def every_error():
    found, waiting = [], [NomxError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_an_error_crosses_with_class_fields_and_words(kind):
    import string

    fields = {name: f"<{name}>" for _, name, _, _ in string.Formatter().parse(kind.template) if name}
    error = kind(**fields)
    reply = codec.decode_reply(codec.encode(Reply(PROTOCOL, 1, codec.failed(error))))
    again = codec.error_of(reply.body)
    assert type(again) is kind
    assert again.fields == fields
    assert str(again) == str(error)


def test_an_error_field_without_a_json_type_crosses_as_text():
    error = InvalidRequest(field="x", value={1, 2}, expected=b"y")
    assert str(codec.error_of(codec.failed(error))) == str(error)


def test_an_error_of_another_release_stays_readable():
    assert "Unheard" in str(codec.error_of(Failed("Unheard", {"of": 1})))
    assert "NotGranted" in str(codec.error_of(Failed("NotGranted", {"of": 1})))


def test_errors_keep_their_place_in_the_tree():
    error = codec.error_of(Failed("LeaseRevoked", {"lease": "L1", "reason": "time"}))
    assert isinstance(error, LeaseEnded)
    assert not isinstance(error, NotGranted)
    assert errors.LeaseRevoked is type(error)


def test_done_is_small():
    assert len(codec.encode(Reply(PROTOCOL, 1, Done()))) < 64
