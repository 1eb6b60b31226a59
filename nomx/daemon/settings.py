"""How one daemon is set up: its instance and what it may use, from the command line of `python -m nomx.daemon`."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from nomx.alloc.names import check_instance, parse_prefix
from nomx.errors import InvalidRequest

DEFAULT_INSTANCE = "nomx"
DEFAULT_PREFIX = "10.77.0.0/16"
_MTU_BYTES = range(576, 1501)


@dataclass(frozen=True)
class Limits:
    """What clients may take of the daemon itself."""

    clients: int = 1024
    clients_per_uid: int = 256
    """For every user but root."""
    silent_s: float = 10.0
    """How long a client that holds no lease may stay without a call."""
    send_s: float = 5.0
    """How long a client may leave an answer unread."""


@dataclass(frozen=True)
class Settings:
    """One daemon's settings; those left out derive from the instance.

    Raises: InvalidRequest: a value that cannot be.
    """

    instance: str = DEFAULT_INSTANCE
    run_directory: Path | None = None
    socket: Path | None = None
    group: str | None = None
    """Members of this group may ask for leases; without it only root may."""
    prefix_text: str = DEFAULT_PREFIX
    mtu_bytes: int = 1500
    embedded: bool = False
    """Live only as long as the starter or a lease does, and leave nothing."""
    system_cores: int = 1
    """CPUs that are never handed out exclusively."""
    system_memory_bytes: int = 256 << 20
    """Memory that is never promised to leases."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_instance(self.instance)
        parse_prefix(self.prefix_text)
        if self.mtu_bytes not in _MTU_BYTES:
            expected = f"{_MTU_BYTES[0]} to {_MTU_BYTES[-1]} (a frame fits one 2048-byte UMEM frame)"
            raise InvalidRequest(field="mtu", value=self.mtu_bytes, expected=expected)
        if self.system_cores < 1:
            raise InvalidRequest(field="system cores", value=self.system_cores, expected="at least 1")

    @property
    def prefix(self) -> IPv4Network:
        return parse_prefix(self.prefix_text)

    @property
    def directory(self) -> Path:
        """Where the journal and the lock are."""
        return self.run_directory or Path("/run", self.instance)

    @property
    def socket_path(self) -> Path:
        return self.socket or self.directory / "nomxd.sock"

    @property
    def journal_path(self) -> Path:
        return self.directory / "journal.sqlite"

    @property
    def lock_path(self) -> Path:
        return self.directory / "lock"
