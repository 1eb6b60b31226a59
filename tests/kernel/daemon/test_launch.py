"""Applications launched on the real kernel: what they are, what they may, and how their ends are told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomx.api.lease import LeaseSpec, UmemGeometry
from nomx.client.launch import Launch, Outcome
from nomx.errors import InvalidRequest, MechanismError, NoDaemon, NomxError, NotPermitted
from nomx.testing.real_daemon import RealDaemon, prefix_of

pytestmark = [pytest.mark.root, pytest.mark.netns]

NOBODY = 65534
MIB = 1 << 20

TELL = """
import json, os, sys
status = dict(line.strip("\\n").split(":\\t", 1) for line in open("/proc/self/status"))
grant = json.load(open(f"/proc/self/fd/{os.environ['NOMX_GRANT']}"))
fds = [grant["counters_fd"], *(grant["device"] or {}).get("xsk_fds", ()), (grant["device"] or {}).get("umem_fd", -1)]
json.dump({
    "status": status, "grant": grant, "netns": os.readlink("/proc/self/ns/net"), "argv": sys.argv,
    "cache": os.environ.get("NUMBA_CACHE_DIR"), "home": os.environ["HOME"],
    "open": [os.readlink(f"/proc/self/fd/{fd}") for fd in fds if fd >= 0],
    "blocked": [int(number) for number in __import__("signal").pthread_sigmask(0, [])],
}, open(sys.argv[1], "w"))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can read and write; pytest's own are for its user alone."""
    directory = Path("/tmp", f"nomx-launch-{os.getpid()}")
    directory.mkdir()
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


def script(place: Path, text: str, mode: int = 0o644) -> str:
    path = place / "app.py"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def run(daemon: RealDaemon, *argv: str, user: str | None = "nobody", **spec: object) -> tuple[Launch, Outcome]:
    launch = Launch.start([sys.executable, *argv], LeaseSpec(**spec), user, socket=daemon.path)  # type: ignore[arg-type]
    return launch, launch.wait()


@pytest.mark.parametrize("user", ["nobody", "65534", "root"])
def test_an_application_has_no_capability_and_the_hosts_network(daemon: RealDaemon, place: Path, user: str) -> None:
    launch, outcome = run(daemon, script(place, TELL), str(place / "told"), "--flag", user=user)
    assert (outcome.exit_code, outcome.signal) == (0, None)
    told = json.loads((place / "told").read_text())
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(told["status"][name], 16) == 0, name
    assert told["status"]["NoNewPrivs"] == "1"
    uid = 0 if user == "root" else NOBODY
    assert told["status"]["Uid"].split() == [str(uid)] * 4
    assert told["status"]["Gid"].split() == [str(uid)] * 4
    assert told["status"]["Groups"].split() == [
        str(gid) for gid in os.getgrouplist("root" if uid == 0 else "nobody", uid)
    ]
    assert told["netns"] == os.readlink("/proc/self/ns/net")
    assert told["argv"][2:] == ["--flag"]
    assert told["blocked"] == []
    assert any("uid 0" in sentence for sentence in launch.grant.unenforced) == (uid == 0)


def test_the_grant_is_complete_and_its_descriptors_are_open(daemon: RealDaemon, place: Path) -> None:
    launch, outcome = run(daemon, script(place, TELL), str(place / "told"), queues=2)
    told = json.loads((place / "told").read_text())
    assert told["grant"]["path"] == "soft"
    assert told["grant"]["lease"] == launch.lease
    assert len(told["grant"]["device"]["xsk_fds"]) == 2
    kinds = [target.split(":")[0] for target in told["open"]]
    assert kinds == ["/memfd", "socket", "socket", "/memfd"]
    assert outcome.status is not None
    assert outcome.status.state == "ended"
    assert outcome.status.device is not None
    assert set(outcome.counters.values()) == {0}


def test_a_user_without_a_home_gets_a_cache_of_its_own(daemon: RealDaemon, place: Path) -> None:
    run(daemon, script(place, TELL), str(place / "told"), path="kernel")
    cache = Path("/var/cache", daemon.instance, str(NOBODY))
    assert json.loads((place / "told").read_text())["cache"] == str(cache)
    assert (cache.stat().st_uid, cache.stat().st_mode & 0o777) == (NOBODY, 0o700)


def test_a_cache_that_is_somebody_elses_is_not_used(daemon: RealDaemon, place: Path) -> None:
    cache = Path("/var/cache", daemon.instance, str(NOBODY))
    cache.parent.mkdir()
    cache.symlink_to(place)
    with pytest.raises(MechanismError, match="somebody else"):
        run(daemon, script(place, TELL), str(place / "told"), path="kernel")


def test_a_module_is_run_as_python_runs_it(daemon: RealDaemon) -> None:
    _, outcome = run(daemon, "-m", "timeit", "-n1", "-r1")
    assert outcome.exit_code == 0


def test_an_application_that_raises_says_so_itself(
    daemon: RealDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, outcome = run(daemon, script(place, "raise RuntimeError('mine')"))
    assert outcome.exit_code == 1
    assert "RuntimeError: mine" in capfd.readouterr().err
    assert outcome.status is not None


def test_an_application_that_is_not_there_takes_no_lease_with_it(daemon: RealDaemon, place: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nothing\.py"):
        run(daemon, str(place / "nothing.py"))
    assert daemon.groups() == set() or daemon.ended("L1")


def test_a_user_who_does_not_exist(daemon: RealDaemon, place: Path) -> None:
    with pytest.raises(InvalidRequest, match="nosuchuser"):
        run(daemon, script(place, ""), user="nosuchuser")


def test_a_script_in_a_closed_directory_is_told_with_the_directory(daemon: RealDaemon, place: Path) -> None:
    inner = place / "inner"
    inner.mkdir(mode=0o700)
    with pytest.raises(NotPermitted, match=f"may not search the directory {inner}; chmod o\\+x {inner}"):
        run(daemon, script(inner, ""))


def test_a_script_that_the_user_may_not_read_is_told(daemon: RealDaemon, place: Path) -> None:
    with pytest.raises(NotPermitted, match="may not read it; chmod o"):
        run(daemon, script(place, "", mode=0o600))


def test_an_interpreter_that_the_user_may_not_execute_is_told(daemon: RealDaemon, place: Path) -> None:
    program = place / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    with pytest.raises(NotPermitted, match="may not execute it"):
        Launch.start([str(program)], LeaseSpec(), "nobody", socket=daemon.path)


def test_anything_executable_can_be_an_application(daemon: RealDaemon) -> None:
    launch = Launch.start(["/bin/sh", "-c", "exit 7"], LeaseSpec(), "nobody", socket=daemon.path)
    assert launch.wait().exit_code == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on_and_the_end_is_told(daemon: RealDaemon, place: Path, number: signal.Signals) -> None:
    ready = place / "ready"
    os.mkfifo(ready)
    ready.chmod(0o666)
    text = (
        "import sys, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "open(sys.argv[1], 'w').close(); signal.pause()"
    )
    launch = Launch.start([sys.executable, script(place, text), str(ready)], LeaseSpec(), "nobody", socket=daemon.path)
    open(ready).close()
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    outcome = launch.wait()
    assert (outcome.signal, outcome.exit_code) == (number, 128 + number)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_out_of_memory_is_told_in_the_outcome(daemon: RealDaemon, place: Path) -> None:
    _, outcome = run(daemon, script(place, "x = bytearray(512 << 20)"), memory_bytes=64 * MIB)
    assert outcome.signal == signal.SIGKILL
    assert outcome.status is not None
    assert outcome.status.oom_kills == 1


def test_memory_too_small_for_the_device_is_told_before(daemon: RealDaemon, place: Path) -> None:
    with pytest.raises(InvalidRequest, match="4M of device memory"):
        run(daemon, script(place, ""), memory_bytes=18 * MIB)


def test_a_refusal_is_the_daemons_own(daemon: RealDaemon, place: Path) -> None:
    with pytest.raises(NomxError, match="cores"):
        run(daemon, script(place, ""), cores=999)
    assert daemon.groups() == set()


def test_device_memory_is_charged_to_the_lease(daemon: RealDaemon, place: Path) -> None:
    ready = place / "ready"
    os.mkfifo(ready)
    ready.chmod(0o666)
    launch = Launch.start(
        [sys.executable, script(place, "import sys; open(sys.argv[1]).read()"), str(ready)],
        LeaseSpec(),
        "nobody",
        UmemGeometry(frames_per_queue=32768),
        daemon.path,
    )
    with daemon.client() as client:
        used_bytes = client.show(launch.grant.lease).memory_used_bytes
    open(ready, "w").close()
    launch.wait()
    assert 64 * MIB < (used_bytes or 0) < 96 * MIB


def test_a_daemon_that_was_replaced_meanwhile_still_tells_the_end(daemon: RealDaemon, place: Path) -> None:
    ready = place / "ready"
    os.mkfifo(ready)
    ready.chmod(0o666)
    text = "import sys\nopen(sys.argv[1]).read()"
    launch = Launch.start([sys.executable, script(place, text), str(ready)], LeaseSpec(), "nobody", socket=daemon.path)
    daemon.kill()
    daemon.start()
    open(ready, "w").close()
    outcome = launch.wait()
    assert outcome.exit_code == 0
    assert outcome.status is not None
    assert outcome.status.end_reason == "its application ended"


@pytest.fixture
def no_daemon(instance: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An instance of the test's own that nobody serves."""
    monkeypatch.setenv("NOMX_INSTANCE", instance)
    monkeypatch.setenv("NOMX_PREFIX", prefix_of(instance))
    monkeypatch.delenv("NOMX_SOCKET", raising=False)
    yield instance
    shutil.rmtree(Path("/var/cache", instance), ignore_errors=True)


def test_root_without_a_daemon_starts_one_that_goes_with_the_run(no_daemon: str, place: Path) -> None:
    launch = Launch.start([sys.executable, script(place, TELL), str(place / "told")], LeaseSpec(), "nobody")
    assert Path("/run", no_daemon, "nomxd.sock").exists()
    assert launch.grant.path == "soft"
    outcome = launch.wait()
    assert outcome.exit_code == 0
    assert outcome.status is not None
    assert not Path("/run", no_daemon).exists()


def test_an_embedded_daemon_serves_others_until_they_have_ended_too(no_daemon: str, place: Path) -> None:
    first = Launch.start([sys.executable, script(place, "import signal; signal.pause()")], LeaseSpec(), "nobody")
    other = RealDaemon(no_daemon).hold()
    try:
        os.kill(first.pid, signal.SIGKILL)
        assert first.wait().signal == signal.SIGKILL
        with RealDaemon(no_daemon).client() as client:
            assert [status.record.lease for status in client.leases()] == [other.lease]
    finally:
        other.end()


def test_an_embedded_daemon_that_cannot_be_says_why(
    no_daemon: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOMX_PREFIX", "8.8.8.0/24")
    with pytest.raises(InvalidRequest, match="prefix"):
        Launch.start([sys.executable, script(place, "")], LeaseSpec(), "nobody")
    assert not Path("/run", no_daemon).exists()


def test_a_socket_that_was_named_starts_no_daemon(no_daemon: str, place: Path) -> None:
    with pytest.raises(NoDaemon):
        Launch.start([sys.executable, script(place, "")], LeaseSpec(), "nobody", socket=place / "sock")


UNPRIVILEGED = """
import sys
from pathlib import Path
from nomx.api.lease import LeaseSpec
from nomx.client.launch import Launch
launch = Launch.start([sys.executable, *sys.argv[2:]], LeaseSpec(path=sys.argv[1] or None))
outcome = launch.wait()
print(launch.lease, launch.grant.path, launch.grant.verdicts[-1].reason, outcome.exit_code, sep="|")
"""


def as_nobody(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, *arguments],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        env={**os.environ, "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_an_ordinary_user_without_a_daemon_runs_on_ordinary_sockets_and_is_told(no_daemon: str, place: Path) -> None:
    ended = as_nobody("", script(place, TELL), str(place / "told"))
    assert ended.returncode == 0, ended.stderr
    lease, path, reason, code = ended.stdout.strip().split("|")
    assert (lease, path, code) == ("None", "kernel", "0")
    assert "no nomx daemon answers" in reason
    told = json.loads((place / "told").read_text())
    assert told["grant"]["device"] is None
    assert told["status"]["NoNewPrivs"] == "1"


def test_an_ordinary_user_who_asks_for_a_device_without_a_daemon_is_refused(no_daemon: str, place: Path) -> None:
    ended = as_nobody("soft", script(place, ""))
    assert "NoDaemon" in ended.stderr


@pytest.mark.parametrize("daemon", [("--group", "nogroup")], indirect=True)
def test_an_ordinary_user_of_the_group_gets_a_device(daemon: RealDaemon, place: Path) -> None:
    ended = as_nobody("", script(place, TELL), str(place / "told"), NOMX_INSTANCE=daemon.instance)
    assert ended.stdout.startswith("L1|soft|"), ended.stderr
    told = json.loads((place / "told").read_text())
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(told["status"][name], 16) == 0, name
