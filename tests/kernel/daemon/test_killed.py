"""Daemons that are killed with -9, and those that come after."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest

from nomx.errors import NomxError, NotGranted
from nomx.linux import cgroupfs
from nomx.testing.real_daemon import RealDaemon

pytestmark = [pytest.mark.root, pytest.mark.netns]

NOBODY = 65534


def test_a_lease_outlives_its_daemon_and_ends_under_the_next(daemon: RealDaemon) -> None:
    holder = daemon.hold(name="survivor")
    with daemon.client() as client:
        before = client.show(holder.lease)
    daemon.kill()
    assert daemon.has_ports("s0", "s1", "a1")
    daemon.start()
    with daemon.client() as client:
        after = client.show(holder.lease)
        assert (after.record, after.cpus, after.device) == (before.record, before.cpus, before.device)
        assert after.crossings is not None
        with pytest.raises(NotGranted):
            client.acquire(before.record.spec) and client.acquire(before.record.spec)
        client.release("L2")
    holder.end()
    assert daemon.ended(holder.lease) == "its application ended"
    assert daemon.has_ports("s0")


def test_a_lease_whose_holder_dies_meanwhile_is_undone_by_the_next(daemon: RealDaemon) -> None:
    holder = daemon.hold()
    daemon.kill()
    holder.end()
    daemon.start()
    assert "while no daemon ran" in daemon.ended(holder.lease)
    assert daemon.groups() == set()
    assert daemon.has_ports("s0")


def test_killed_at_any_moment_of_a_grant_nothing_is_lost_or_left(daemon: RealDaemon) -> None:
    chance = random.Random(4)
    for _ in range(12):
        acquiring = subprocess.Popen(
            [sys.executable, "-m", "nomx.testing.holder", str(daemon.path), "{}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        time.sleep(chance.uniform(0.05, 0.25))
        daemon.kill()
        daemon.start()
        with daemon.client() as client:
            live = client.leases()
        assert {status.state for status in live} <= {"granted"}
        assert daemon.groups() == {
            f"{root.name}/lease{status.record.number}" for status in live for root in cgroupfs.hierarchies().roots()
        }
        assert daemon.has_ports("s0", *(f"{end}{status.record.number}" for status in live for end in "sa"))
        acquiring.kill()
        acquiring.communicate()
        for status in live:
            daemon.ended(status.record.lease)


def test_a_stop_leaves_leases_to_the_next_daemon(daemon: RealDaemon) -> None:
    holder = daemon.hold()
    assert daemon.stop() == 0
    assert daemon.has_ports("s0", "s1", "a1")
    daemon.start()
    with daemon.client() as client:
        assert client.show(holder.lease).state == "granted"


def test_what_nobody_accounts_for_is_removed(daemon: RealDaemon) -> None:
    orphan = cgroupfs.hierarchies().unified / cgroupfs.directory_name(daemon.instance, "lease7")
    holder = daemon.hold()
    daemon.kill()
    orphan.mkdir()
    daemon.start()
    assert not orphan.exists()
    assert daemon.has_ports("s0", "s1", "a1")
    holder.end()


def test_one_instance_has_one_daemon(daemon: RealDaemon) -> None:
    command = [sys.executable, "-m", "nomx.daemon", "--instance", daemon.instance, "--prefix", "10.99.99.0/24"]
    second = subprocess.run(command, capture_output=True, check=False, timeout=30)
    assert second.returncode == 1
    assert b"runs already" in second.stderr
    with daemon.client() as client:
        client.hello()


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--prefix", "8.8.8.0/24"), 2, b"prefix"),
        (("--prefix", "nonsense"), 2, b"prefix"),
        (("--instance", "UPPER"), 2, b"instance"),
        (("--group", "no-such-group"), 2, b"groupadd"),
        (("--mtu", "9000"), 2, b"mtu"),
    ],
)
def test_bad_settings_are_refused_in_words(instance: str, options: tuple[str, ...], code: int, told: bytes) -> None:
    command = [sys.executable, "-m", "nomx.daemon", "--instance", instance, *options]
    refused = subprocess.run(command, capture_output=True, check=False, timeout=30)
    assert refused.returncode == code
    assert told in refused.stderr


def test_a_prefix_that_the_host_routes_is_refused(daemon: RealDaemon, instance: str) -> None:
    command = [sys.executable, "-m", "nomx.daemon", "--instance", f"{instance}z", "--prefix", daemon.prefix]
    refused = subprocess.run(command, capture_output=True, check=False, timeout=30)
    assert refused.returncode == 2
    assert f"goes to {daemon.instance}0".encode() in refused.stderr


def test_an_ordinary_user_cannot_be_the_daemon(instance: str) -> None:
    command = [sys.executable, "-m", "nomx.daemon", "--instance", instance]
    refused = subprocess.run(
        command, capture_output=True, check=False, timeout=30, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/"
    )
    assert refused.returncode == 1
    assert b"sudo" in refused.stderr


def test_a_lease_cannot_be_had_from_a_daemon_that_is_gone(daemon: RealDaemon) -> None:
    daemon.kill()
    with pytest.raises(NomxError, match="no nomx daemon answers"):
        daemon.hold()
    daemon.start()
