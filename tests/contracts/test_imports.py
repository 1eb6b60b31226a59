"""The import rules of the house, as pyproject.toml states them for import-linter."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_no_room_imports_what_its_flow_forbids() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def imported_by(statement: str) -> set[str]:
    """Give the modules that a fresh interpreter has loaded after *statement*."""
    program = f"{statement}\nimport sys; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


@pytest.mark.parametrize("heavy", ["numba", "numpy", "pyroute2", "asyncio", "msgspec", "subprocess", "nomx.client"])
def test_the_command_line_starts_light(heavy: str) -> None:
    assert heavy not in imported_by("import nomx_cli.main")


@pytest.mark.parametrize("heavy", ["numba", "numpy", "pyroute2", "asyncio"])
def test_running_an_application_stays_light(heavy: str) -> None:
    assert heavy not in imported_by("import nomx_cli.commands.run, nomx.client.launch")


@pytest.mark.parametrize("heavy", ["numba", "numpy"])
def test_the_daemon_stays_small(heavy: str) -> None:
    assert heavy not in imported_by("import nomx.daemon.run")


def test_importing_nomx_imports_no_compiler() -> None:
    assert not {"numba", "numpy"} & imported_by("import nomx")
