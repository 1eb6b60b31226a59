"""Exit codes: what a script learns from a command that ended. Documented in `nomx man`."""

from __future__ import annotations

from nomx.errors import InvalidRequest, NoDaemon, NomxError, NotGranted, NotPermitted, NotSupported

DONE = 0
FAILED = 1
USAGE = 2
NO_DAEMON = 3
REFUSED = 4

MEANINGS = {
    DONE: "done",
    FAILED: "failed: the message says at what",
    USAGE: "usage: an option or a value of one is wrong",
    NO_DAEMON: "no daemon answers on the control socket",
    REFUSED: "refused: not granted, not supported here, or not permitted",
}
"""`nomx run` passes on the code of an application that failed, and 128 plus the number of a signal that ended it."""

_KINDS = ((InvalidRequest, USAGE), (NoDaemon, NO_DAEMON), ((NotGranted, NotSupported, NotPermitted), REFUSED))


def code_of(error: NomxError) -> int:
    """Give the exit code that tells *error*."""
    return next((code for kind, code in _KINDS if isinstance(error, kind)), FAILED)
