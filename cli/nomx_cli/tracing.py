"""From the words of `nomx trace` to targets, a running trace and its files; between the command and `nomx.trace`."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nomx.errors import InvalidRequest
from nomx_cli.session import connected

if TYPE_CHECKING:
    from nomx.trace.command import Command
    from nomx.trace.probe import ProbeTable
    from nomx.trace.report import Report, Sample
    from nomx.trace.session import Session
    from nomx.trace.target import Target

_LEASE = re.compile(r"L\d+")
_EXPECTED = "a lease (L1), a pid, a saved trace (FILE.json), or a command after --"


@contextmanager
def resolved(word: str, devices: Sequence[str] = ()) -> Iterator[Target]:
    """Yield the target that *word* names; a lease's daemon is asked for as long as the context lasts.

    Raises: InvalidRequest: it names none. NoDaemon: it is a lease, and nobody answers. NotPermitted.
    """
    from nomx.trace import gaps, target

    gaps.check_permitted()
    if word.isdecimal():
        yield target.process(int(word), tuple(devices))
        return
    if not _LEASE.fullmatch(word):
        raise InvalidRequest(field="target", value=repr(word), expected=_EXPECTED)
    with connected() as client:
        instance = client.hello().instance
        yield target.lease(client.show(word), instance, lambda: client.show(word))


def _only_lease() -> str:
    """Return the only lease there is, where none was named."""
    with connected() as client:
        leases = [status.record.lease for status in client.leases()]
    if len(leases) != 1:
        held = f"{len(leases)} leases: {', '.join(leases)}" if leases else "no lease"
        raise InvalidRequest(field="target", value=f"none, and there are {held}", expected=_EXPECTED)
    return leases[0]


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGINT or SIGTERM asked to stop; they do nothing else meanwhile."""
    asked = []
    kept = {number: signal.signal(number, lambda *_: asked.append(True)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@dataclass
class Outputs:
    """The files that were asked for, opened before anything is traced, so that nothing is traced in vain."""

    files: dict[str, TextIO] = field(default_factory=dict)
    figure: Path | None = None

    @classmethod
    @contextmanager
    def opened(cls, options: dict[str, Any]) -> Iterator[Outputs]:
        """Take the options that name files out of *options*, and open them.

        Raises: InvalidRequest: one cannot be written. NotSupported: matplotlib is missing.
        """
        figure = options.pop("figure")
        if figure is not None:
            from nomx.trace import figures

            figures.check(figure)
        with ExitStack() as stack:
            outputs = cls(figure=figure)
            for name in ("csv_file", "timeline", "flame", "folded"):
                path = options.pop(name)
                if path is not None:
                    outputs.files[name] = stack.enter_context(_written(path))
            yield outputs

    @property
    def wants_stacks(self) -> bool:
        return bool({"flame", "folded"} & self.files.keys())

    def write(self, reports: Sequence[Report], session: Session) -> None:
        """Write what was found."""
        from nomx.trace import flame, stacks, table, timeline

        lines = stacks.together([report.stacks for report in reports])
        labels = ", ".join(report.target for report in reports)
        title = f"{labels}: CPU time, {reports[0].clock_hz} samples a second"
        for name, file in self.files.items():
            match name:
                case "csv_file":
                    table.write(file, reports)
                case "timeline":
                    timeline.write(file, reports, timeline.unpack(session.events), session.dropped_events)
                case "flame":
                    flame.write_svg(file, lines, title)
                case "folded":
                    flame.write_folded(file, lines)
        if self.figure is not None:
            from nomx.trace import figures

            figures.draw_intervals(reports, self.figure)


def _written(path: Path) -> TextIO:
    try:
        return open(path, "w", encoding="utf-8", newline="")
    except OSError as error:
        raise InvalidRequest(
            field="file", value=path, expected=f"a file that can be written ({error.strerror})"
        ) from error


@dataclass
class Tracing:
    """A trace that runs: a context, in which `samples` is iterated to its end, then `reports` asked for."""

    session: Session
    command: Command | None

    @classmethod
    @contextmanager
    def of(
        cls,
        words: Sequence[str],
        argv: Sequence[str],
        options: Mapping[str, Any],
        outputs: Outputs | None = None,
        by: str = "",
    ) -> Iterator[Tracing]:
        """Trace the targets that *words* name, or *argv* as a command, or the only lease."""
        from nomx.trace.session import open_session
        from nomx.trace.tracer import Options

        stacks = by == "function" or (outputs is not None and outputs.wants_stacks)
        settings = Options(
            timeline=outputs is not None and "timeline" in outputs.files,
            clock_hz=options["hz"] if stacks else 0,
            packets=options["packets"],
            softirqs=options["softirqs"],
            verdicts=options.get("verdicts", False),
        )
        if argv and words:
            raise InvalidRequest(field="target", value=words[0], expected="a target, or a command after --, not both")
        with ExitStack() as stack:
            command = stack.enter_context(_started(argv, options["user"])) if argv else None
            if command is not None:
                targets = [command.target]
            else:
                names = words or [_only_lease()]
                targets = [stack.enter_context(resolved(word, options["device"])) for word in names]
            stop = stack.enter_context(stopping())
            session = open_session(targets, settings, options["interval"], options["duration"])
            stack.callback(session.tracer.close)
            session.should_stop = stop
            session.start()
            if command is not None:
                command.go()
            yield cls(session, command)

    def samples(self) -> Iterator[dict[str, Sample]]:
        """Yield a sample of each target at every interval, to the end."""
        yield from self.session.run()

    def reports(self) -> tuple[Report, ...]:
        """Tell what was found."""
        return self.session.reports()


@contextmanager
def _started(argv: Sequence[str], user: str | None) -> Iterator[Command]:
    """Yield the command, which waits for the word; ends what is left of it, and removes its cgroup."""
    from nomx.trace.command import Command

    command = Command.start(argv, user)
    try:
        yield command
    finally:
        command.end()
        command.close()


def reports_of(
    words: Sequence[str], argv: Sequence[str], options: Mapping[str, Any], default_duration_s: float
) -> tuple[Report, ...]:
    """Return a report of each target, in order: saved traces are read, all others are traced together."""
    saved = {word: _saved(Path(word)) for word in words if word.endswith(".json")}
    live = [word for word in words if word not in saved]
    traced: dict[str, Report] = {}
    if live or argv or not words:
        duration = options["duration"] or (None if argv else default_duration_s)
        with Tracing.of(live, argv, {**options, "duration": duration}) as tracing:
            for _ in tracing.samples():
                pass
            traced = {report.target: report for report in tracing.reports()}
    if not words:
        return tuple(traced.values())
    return tuple(report for word in words for report in saved.get(word, (traced.get(word),)) if report is not None)


def _saved(path: Path) -> tuple[Report, ...]:
    """Read the reports that `nomx trace -j` wrote."""
    import msgspec

    from nomx.trace.report import Saved

    try:
        return msgspec.json.decode(path.read_bytes(), type=Saved).reports
    except OSError as error:
        raise InvalidRequest(
            field="trace", value=path, expected=f"a file that can be read ({error.strerror})"
        ) from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(field="trace", value=path, expected=f"what `nomx trace -j` wrote ({error})") from error


def run_probe(
    what: str, lease: str | None, pid: int | None, everywhere: bool, duration_s: float | None
) -> tuple[ProbeTable, ...]:
    """Run a probe until the time is over or somebody stops it; its tables."""
    from nomx.trace.probe import Probe

    words = [word for word in (lease, str(pid) if pid is not None else None) if word is not None]
    if not words and not everywhere:
        raise InvalidRequest(field="probe", value="no target", expected="--lease, --pid or --everywhere")
    with ExitStack() as stack:
        targets = [stack.enter_context(resolved(word)) for word in words]
        probe = stack.enter_context(Probe.open(what, targets, everywhere))
        probe.wait(duration_s, stack.enter_context(stopping()))
        return probe.tables()
