"""What a mechanism is: the way to do one kind of action in Linux, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from nomx.errors import MechanismError

A_contra = TypeVar("A_contra", contravariant=True)


class Mechanism(Protocol[A_contra]):
    """Does one kind of action."""

    def apply(self, action: A_contra) -> None:
        """Do it. Raises: MechanismError: Linux refused; `undo` cleans up what was done."""

    def undo(self, action: A_contra) -> None:
        """Take it back, done, half done or never begun; from the action alone, any number of times."""


@contextmanager
def explained(operation: str, hint: str) -> Iterator[None]:
    """Raise what Linux refuses as a MechanismError of *operation*, with a *hint* at the next step."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        raise MechanismError(operation=operation, reason=reason, hint=hint) from error
