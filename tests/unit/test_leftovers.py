"""The guard of the test session: it must see what is left, and only what is this session's."""

import os
import subprocess
import sys

import pytest

from nomx.testing.leftovers import SESSION, TEST_VARIABLE, Leftovers

WAITING = [sys.executable, "-c", "print('here', flush=True); input()"]


def test_sees_a_process_that_inherited_the_session() -> None:
    before = Leftovers.of_session()
    with subprocess.Popen(WAITING, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"  # its environment is in /proc from here on, not sooner
        left = Leftovers.of_session() - before
        assert [name.split()[0] for name in left.processes] == [str(child.pid)]
        assert str(child.pid) in str(left)
        child.communicate(b"\n")
    assert not Leftovers.of_session() - before


def test_passes_over_processes_of_another_session() -> None:
    other = {**os.environ, TEST_VARIABLE: f"{SESSION}0"}
    before = Leftovers.of_session()
    with subprocess.Popen(WAITING, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=other) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"
        assert not Leftovers.of_session() - before
        child.communicate(b"\n")


@pytest.mark.root
def test_sees_a_run_directory(instance: str) -> None:
    os.mkdir(f"/run/{instance}")
    try:
        assert Leftovers.of_session().run_directories == (instance,)
    finally:
        os.rmdir(f"/run/{instance}")


def test_instances_of_one_session_differ(instance: str, request: pytest.FixtureRequest) -> None:
    assert instance.startswith(SESSION)
    assert not instance[len(SESSION) :][:1].isdigit()
    assert len(instance) <= 12
