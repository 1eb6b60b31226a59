"""Names of the kernel's functions, from /proc/kallsyms: what an address in a stack belongs to. Used by `nomx.trace`."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

_KALLSYMS = Path("/proc/kallsyms")


class Symbols:
    """The functions of the kernel and its modules, sorted by address."""

    def __init__(self, addresses: list[int], names: list[str]) -> None:
        """Take each function's first address, ascending, and its name."""
        self._addresses = addresses
        self._names = names

    @classmethod
    def read(cls, path: Path = _KALLSYMS) -> Symbols:
        """Read the running kernel's table.

        Raises: PermissionError: every address reads as 0, so the kernel hides them from us (kptr_restrict).
        """
        found: list[tuple[int, str]] = []
        with open(path, encoding="ascii", errors="replace") as table:
            for line in table:
                address, kind, name, *_ = line.split()
                if kind in "tTwW":
                    found.append((int(address, 16), name))
        found.sort()
        if not found or found[-1][0] == 0:
            raise PermissionError(
                1, "addresses are hidden: it takes CAP_SYSLOG, or sysctl kernel.kptr_restrict=0", str(path)
            )
        return cls([address for address, _ in found], [name for _, name in found])

    def name(self, address: int) -> str:
        """Return the function that *address* is in, or the address where there is none below it."""
        place = bisect_right(self._addresses, address) - 1
        return self._names[place] if place >= 0 else f"{address:#x}"
