"""Execute: plans into kernel state, step by step, and back in reverse order."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nomx.alloc.actions import Action
from nomx.alloc.plan import describe
from nomx.daemon.kernel import Kernel
from nomx.errors import MechanismError, NomxError

_log = logging.getLogger("nomx.daemon.executor")


def execute(kernel: Kernel, actions: Sequence[Action]) -> None:
    """Apply *actions* in order, up to the first that fails; what was done is for `undo`.

    Raises: NomxError: the failing step's.
    """
    for action in actions:
        _log.debug("apply: %s", describe(action))
        try:
            kernel.apply(action)
        except NomxError:
            raise
        except Exception as error:  # a mechanism's bug must not leave its plan half done
            _log.exception("apply failed unexpectedly: %s", describe(action))
            raise _unexpected(action, error) from error


def undo(kernel: Kernel, actions: Sequence[Action]) -> tuple[NomxError, ...]:
    """Undo *actions* in reverse, all of them whatever fails; return the failures.

    Source: STYLE "every action of a plan has an undo": an undo works whether its action was done,
    half done or never begun, so it does not matter where a plan stopped.
    """
    failures: list[NomxError] = []
    for action in reversed(actions):
        _log.debug("undo: %s", describe(action))
        try:
            kernel.undo(action)
        except NomxError as error:
            _log.error("undo failed, will be tried again: %s: %s", describe(action), error)
            failures.append(error)
        except Exception as error:  # likewise: the other steps still have to be undone
            _log.exception("undo failed unexpectedly: %s", describe(action))
            failures.append(_unexpected(action, error))
    return tuple(failures)


def _unexpected(action: Action, error: Exception) -> MechanismError:
    hint = "this is a bug of nomx: please report it with the daemon's log"
    return MechanismError(operation=describe(action), reason=repr(error), hint=hint)
