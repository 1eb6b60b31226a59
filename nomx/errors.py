"""Everything that nomx raises, in one tree: errors carry fields, and each message says what, the value, the next step.

    NomxError
    ├── InvalidRequest      a field of what was asked is wrong (yours to mend)
    ├── NotGranted          well formed, but there is not enough of it now
    ├── NotSupported        this machine or device cannot do it, and what would mend that
    ├── NotPermitted        you may not do it, and who may
    ├── NoDaemon            nobody answers on the control socket
    ├── ProtocolError       the other side spoke another language, or nonsense
    ├── Malformed           bytes off the wire are not what they should be
    ├── MechanismError      Linux refused a step that the plan thought possible
    ├── WouldBlock          nothing there yet, nothing changed
    └── LeaseEnded
        ├── LeaseClosed     you gave the lease back
        └── LeaseRevoked    the daemon took it back

The tree is shared by both flows: the daemon sends an error as its `kind` and its fields
(`nomx.api.codec`), and the client raises the same class again.
"""

from __future__ import annotations

from typing import Any, ClassVar


class NomxError(Exception):
    """Any failure that nomx explains.

    A subclass names its fields in *template*, from which the message is made, so that an error
    that crossed the control socket reads the same on both sides.
    """

    template: ClassVar[str] = "{reason}"

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(self.template.format(**fields))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.fields)


def _rebuild(kind: type[NomxError], fields: dict[str, Any]) -> NomxError:
    return kind(**fields)


class InvalidRequest(NomxError):
    """A field of the request is wrong: *field*, the *value* given, what was *expected*."""

    template = "{field}: {value} is not acceptable; expected {expected}"


class NotGranted(NomxError):
    """There is not enough: *resource*, how much was *asked*, how much is *available*, who is the *holder*."""

    template = (
        "{resource}: asked for {asked}, {available} available (held by {holder}); ask for less, or wait for a release"
    )


class NotSupported(NomxError):
    """This machine or device cannot do it: the *feature*, what is *missing*, what would be a *remedy*."""

    template = "{feature} is not supported here: {missing}; {remedy}"


class NotPermitted(NomxError):
    """You may not: the *operation*, what is *missing* (a capability, a group, an owner), a *remedy*."""

    template = "{operation} is not permitted: {missing}; {remedy}"


class NoDaemon(NomxError):
    """Nobody answers on *socket*."""

    template = "no nomx daemon answers on {socket} ({reason}); start one with: sudo nomx daemon"


class ProtocolError(NomxError):
    """The control conversation broke: the *reason*, and what to do about it in *remedy*."""

    template = "control protocol: {reason}; {remedy}"


class Malformed(NomxError):
    """Bytes are no *format* (a header, a message): the *reason*."""

    template = "not {format}: {reason}"


class MechanismError(NomxError):
    """Linux refused a step: the *operation*, its *reason* (errno and file or call), a *hint*."""

    template = "{operation}: {reason}; {hint}"


class WouldBlock(NomxError):
    """Nothing there yet; nothing was changed."""

    template = "{operation} would block; try again or wait"


class LeaseEnded(NomxError):
    """The *lease* is over."""

    template = "lease {lease} has ended: {reason}"


class LeaseClosed(LeaseEnded):
    """You gave the *lease* back (or never had it)."""


class LeaseRevoked(LeaseEnded):
    """The daemon took the *lease* back."""
