"""`./dev`: help without set-up, root or not, and from a checkout that other users cannot read."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
SOURCES = ["dev", "pyproject.toml", "requirements.lock", "hatch_build.py", "README.md", "LICENSE", "bpf", "cli", "nomx"]


def dev(*arguments: str, root: Path = ROOT, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run ./dev of a checkout, as somebody else where *before* says so."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "NOMX_REQUIRE")}
    return subprocess.run(
        [*before, root / "dev", *arguments], cwd="/", env=environment, capture_output=True, text=True, timeout=240
    )


def test_help_needs_no_set_up_and_names_every_command() -> None:
    done = dev("help")
    assert done.returncode == 0
    offered = {line.split()[0] for line in done.stdout.splitlines()[1:]}
    assert {"demo", "test", "lint", "docs", "build", "clean", "help"} <= offered
    assert all(len(line.split()) > 1 for line in done.stdout.splitlines()[1:])


def test_an_unknown_command_is_wrong_usage() -> None:
    done = dev("nonsense")
    assert done.returncode == 2
    assert "usage: ./dev COMMAND" in done.stderr


@pytest.mark.root
def test_tests_run_as_nobody_in_the_environment_that_root_made() -> None:
    done = dev("test", "-q", "tests/unit/test_leftovers.py", before=tuple(NOBODY))
    if "other users" in done.stderr or "not yours to write in" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip(f"nobody cannot use this checkout: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed, 1 skipped" in done.stdout
    assert "it needs root" in done.stdout


@pytest.fixture
def hidden_checkout(tmp_path: Path) -> Iterator[Path]:
    """A checkout that only root can enter; what ./dev makes of it elsewhere is removed."""
    checkout = tmp_path / "hidden" / "checkout"
    checkout.mkdir(parents=True)
    checkout.parent.chmod(0o700)
    for name in (*SOURCES, "tests"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, checkout / name)
    yield checkout
    digest = hashlib.sha256(f"{checkout}\n".encode()).hexdigest()[:16]
    shutil.rmtree(f"/var/cache/nomx-dev/{digest}", ignore_errors=True)


@pytest.mark.root
@pytest.mark.slow
def test_a_checkout_that_others_cannot_read_is_worked_on_in_a_copy_that_they_can(hidden_checkout: Path) -> None:
    done = dev("test", "-q", "tests/unit/test_leftovers.py", root=hidden_checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    copy = next(line.split()[-1] for line in done.stderr.splitlines() if "working on a copy" in line)
    as_nobody = subprocess.run([*NOBODY, f"{copy}/.venv/bin/python", "-c", "import nomx.errors"], cwd="/", check=False)
    assert as_nobody.returncode == 0
