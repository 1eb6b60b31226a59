"""A daemon without sockets, threads or Linux: the service over a fake kernel; it can be killed and started again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nomx.api import messages as m
from nomx.api.lease import LeaseRecord, LeaseSpec, LeaseStatus
from nomx.daemon.journal import Journal
from nomx.daemon.leases import Leases
from nomx.daemon.service import Answered, Caller, Service
from nomx.daemon.settings import Settings
from nomx.testing.clock import FakeClock
from nomx.testing.fake_kernel import FakeKernel


@dataclass
class Recorded:
    """Every event in order: ("began" or "ended", lease)."""

    events: list[tuple[str, str]] = field(default_factory=list)

    def lease_began(self, record: LeaseRecord) -> None:
        """See `nomx.daemon.events.Events`."""
        self.events.append(("began", record.lease))

    def lease_ended(self, record: LeaseRecord) -> None:
        """See `nomx.daemon.events.Events`."""
        self.events.append(("ended", record.lease))


class FakeDaemon:
    """One instance on one fake kernel and one journal, through any number of daemon lives."""

    def __init__(self, directory: Path, kernel: FakeKernel | None = None) -> None:
        self.kernel = kernel or FakeKernel()
        self.clock = FakeClock()
        self.settings = Settings(instance="fake", run_directory=directory)
        self.events = Recorded()
        self._directory = directory
        self.start()

    def start(self, boot_id: str = "boot") -> None:
        """Start a daemon, which recovers what the one before it left."""
        self.journal = Journal.open(self._directory / "journal.sqlite", boot_id)
        self.leases = Leases(self.settings, self.kernel, self.journal, self.events, self.clock)
        self.service = Service(self.settings, self.kernel, self.leases)
        self.leases.recover()
        self.leases.plug_host("/host")

    def kill(self) -> None:
        """Kill the daemon with -9: nothing is closed but what the kernel closes."""
        self.journal.close()

    def call(self, pid: int, body: m.Body, *fds: int, uid: int = 0) -> Answered:
        """Call as process *pid* of user *uid*."""
        return self.service.answer(Caller(pid, uid), body, fds)

    def acquire(self, pid: int, uid: int = 0, **spec: object) -> m.Granted:
        """Start process *pid* and acquire a lease for it."""
        if pid not in self.kernel.processes:
            self.kernel.start(pid)
        answer = self.call(pid, m.Acquire(LeaseSpec(**spec)), uid=uid).body  # type: ignore[arg-type]
        assert isinstance(answer, m.Granted)
        return answer

    def holder_ends(self, pid: int, lease: str) -> None:
        """End a holder, as the server would notice it."""
        self.kernel.end(pid)
        self.leases.end(lease, "its application ended", kill=True)

    def show(self, lease: str) -> LeaseStatus:
        """Ask for one lease's status."""
        answer = self.call(1, m.Show(lease)).body
        assert isinstance(answer, m.Shown)
        return answer.status
