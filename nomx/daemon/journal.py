"""The journal: what the daemon must know to recover, in SQLite, written before the kernel is touched.

An entry says everything its undo needs, so a daemon that finds one needs nothing else. A lease is
written as `granting` before its plan is executed, as `granted` after, as `ending` before it is
undone, and leaves the live entries when nothing of it remains; wherever a daemon was killed, the
next one knows which of these it was in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nomx.alloc.actions import Action, PlugPort
from nomx.api.lease import DeviceGrant, LeaseRecord, LeaseStatus
from nomx.errors import MechanismError, NotSupported
from nomx.types import CpuSet

FORMAT = 1
KEPT_ENDED = 256
"""How many ended leases can still be shown."""

_SCHEMA = """
CREATE TABLE boot (id TEXT NOT NULL);
CREATE TABLE live (number INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE ended (sequence INTEGER PRIMARY KEY AUTOINCREMENT, lease TEXT NOT NULL UNIQUE, status BLOB NOT NULL);
CREATE TABLE station (slot INTEGER PRIMARY KEY, action BLOB NOT NULL);
CREATE TABLE counter (next_lease INTEGER NOT NULL);
INSERT INTO counter VALUES (1);
"""
_KINDS: dict[str, type[Action]] = {kind.__name__: kind for kind in Action.__subclasses__()}


@dataclass(frozen=True)
class Entry:
    """One lease that still has something in the kernel."""

    record: LeaseRecord
    actions: tuple[Action, ...]
    """What its end undoes, in order of application."""
    device: DeviceGrant | None = None
    """What was bound, once it is; without descriptors."""
    last: LeaseStatus | None = None
    """The last observation, made when it began to end."""


class _StoredEntry(msgspec.Struct):
    record: LeaseRecord
    actions: list[dict[str, Any]]
    device: DeviceGrant | None
    last: LeaseStatus | None


class Journal:
    """One instance's journal. Every method raises MechanismError where the file cannot be read or written."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database = database
        self._path = path

    @classmethod
    def open(cls, path: Path, boot_id: str) -> Journal:
        """Open or make the journal at *path*; one of another boot starts empty, since its leases died with that.

        Raises:
            MechanismError: the file is unreadable or no journal.
            NotSupported: it was written by a newer release.
        """
        with _explained("opening the journal", path):
            database = sqlite3.connect(path, isolation_level=None, timeout=1.0, check_same_thread=False)
            path.chmod(0o600)
            journal = cls(database, path)
            try:
                journal._prepare(boot_id)
            except BaseException:
                database.close()
                raise
        return journal

    def _prepare(self, boot_id: str) -> None:
        # A killed daemon loses nothing that SQLite handed to the kernel, and after a crash of the
        # kernel there is nothing left that the journal could speak of: no need to wait for a disk.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = OFF")
        (format_,) = self._database.execute("PRAGMA user_version").fetchone()
        if format_ > FORMAT:
            missing = f"{self._path} has format {format_}, this release knows {FORMAT}"
            raise NotSupported(feature="the journal", missing=missing, remedy="run the newer daemon, or end its leases")
        with self._transaction():
            if format_ == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {FORMAT}")
            if self._database.execute("SELECT id FROM boot").fetchone() != (boot_id,):
                for table in ("boot", "live", "station"):
                    self._database.execute(f"DELETE FROM {table}")
                self._database.execute("INSERT INTO boot VALUES (?)", (boot_id,))

    def close(self, *, remove: bool = False) -> None:
        """Close the file; with *remove*, delete it."""
        self._database.close()
        if remove:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def next_lease(self) -> int:
        """Return the number of the next lease's name."""
        with _explained("reading the journal", self._path):
            (number,) = self._database.execute("SELECT next_lease FROM counter").fetchone()
            return int(number)

    def write(self, entry: Entry) -> None:
        """Store a live lease, new or changed; a new one's name is used up."""
        stored = _StoredEntry(entry.record, [_packed(action) for action in entry.actions], entry.device, entry.last)
        with _explained("writing the journal", self._path), self._transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO live VALUES (?, ?)", (entry.record.number, msgspec.json.encode(stored))
            )
            used = int(entry.record.lease.removeprefix("L"))
            self._database.execute("UPDATE counter SET next_lease = max(next_lease, ?)", (used + 1,))

    def end(self, entry: Entry, status: LeaseStatus) -> None:
        """Move a lease from the live to the ended ones, of which the last KEPT_ENDED stay."""
        with _explained("writing the journal", self._path), self._transaction():
            self._database.execute("DELETE FROM live WHERE number = ?", (entry.record.number,))
            self._database.execute(
                "INSERT OR REPLACE INTO ended (lease, status) VALUES (?, ?)",
                (status.record.lease, msgspec.json.encode(status)),
            )
            self._database.execute(
                "DELETE FROM ended WHERE sequence <= (SELECT max(sequence) FROM ended) - ?", (KEPT_ENDED,)
            )

    def forget(self, entry: Entry) -> None:
        """Remove a lease that was never granted."""
        with _explained("writing the journal", self._path):
            self._database.execute("DELETE FROM live WHERE number = ?", (entry.record.number,))

    def live(self) -> tuple[Entry, ...]:
        """Return every live lease, in order of slot."""
        with _explained("reading the journal", self._path):
            rows = self._database.execute("SELECT entry FROM live ORDER BY number").fetchall()
            return tuple(_entry(blob) for (blob,) in rows)

    def ended(self, lease: str) -> LeaseStatus | None:
        """Return the last status of a lease that has ended; None if it is unknown or too long ago."""
        with _explained("reading the journal", self._path):
            row = self._database.execute("SELECT status FROM ended WHERE lease = ?", (lease,)).fetchone()
            return None if row is None else msgspec.json.decode(row[0], type=LeaseStatus)

    def write_station(self, action: PlugPort) -> None:
        """Store a station, before it is plugged."""
        with _explained("writing the journal", self._path):
            self._database.execute(
                "INSERT OR REPLACE INTO station VALUES (?, ?)", (action.port, msgspec.json.encode(_packed(action)))
            )

    def forget_station(self, action: PlugPort) -> None:
        """Remove a station, after it was unplugged."""
        with _explained("writing the journal", self._path):
            self._database.execute("DELETE FROM station WHERE slot = ?", (action.port,))

    def stations(self) -> tuple[PlugPort, ...]:
        """Return every station, the host's port among them, in order of slot."""
        with _explained("reading the journal", self._path):
            rows = self._database.execute("SELECT action FROM station ORDER BY slot").fetchall()
            actions = [_unpacked(msgspec.json.decode(blob)) for (blob,) in rows]
            return tuple(action for action in actions if isinstance(action, PlugPort))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def _packed(action: Action) -> dict[str, Any]:
    return {"action": type(action).__name__, **msgspec.to_builtins(action)}


def _unpacked(stored: dict[str, Any]) -> Action:
    fields = {name: value for name, value in stored.items() if name != "action"}
    return msgspec.convert(fields, _KINDS[stored["action"]], dec_hook=_cpus)


def _cpus(kind: type, value: Sequence[int]) -> CpuSet:
    if kind is not CpuSet:
        raise NotImplementedError(kind)
    return CpuSet(value)


def _entry(blob: bytes) -> Entry:
    stored = msgspec.json.decode(blob, type=_StoredEntry)
    return Entry(stored.record, tuple(_unpacked(each) for each in stored.actions), stored.device, stored.last)


@contextmanager
def _explained(operation: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        hint = f"look at the file system's space and rights; to give up its leases, stop the daemon and delete {path}"
        raise MechanismError(operation=operation, reason=f"{error}: {path}", hint=hint) from error
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as error:
        hint = f"it is damaged; to give up its leases, stop the daemon and delete {path}"
        raise MechanismError(operation=operation, reason=f"{error}: {path}", hint=hint) from error
