"""What the command line promises of itself: help everywhere, one JSON switch, exit codes, completion, a manual."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from nomx_cli.exits import MEANINGS, NO_DAEMON, USAGE
from nomx_cli.main import COMMANDS, cli
from nomx_cli.manual import Entry, entries, man_page, markdown

ROOT = Path(__file__).parents[2]
ENTRIES = {entry.name: entry for entry in entries(cli)}
NOWHERE = "/nonexistent/nomxd.sock"


class Runner(CliRunner):
    """Runs the command line as the installed command does."""

    def invoke(self, *arguments: Any, **options: Any) -> Result:
        return super().invoke(*arguments, prog_name="nomx", **options)


@pytest.fixture
def runner() -> Runner:
    return Runner(env={"NOMX_SOCKET": None})


def test_each_command_is_in_the_manual() -> None:
    assert {name.split()[1] for name in ENTRIES if name != "nomx"} == set(COMMANDS)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_each_command_says_what_it_does_and_each_option_too(entry: Entry) -> None:
    assert re.match(r"[A-Z].*[.:]", entry.paragraphs[0])
    assert all(text for _, text in entry.options)


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != "nomx daemon"])
def test_help_of_each_command(runner: Runner, name: str) -> None:
    done = runner.invoke(cli, [*name.split()[1:], "--help"])
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: nomx {' '.join(name.split()[1:])}".rstrip())


def test_json_may_stand_before_and_after_the_command(runner: Runner) -> None:
    before = runner.invoke(cli, ["-j", "version"]).stdout
    assert json.loads(before) == json.loads(runner.invoke(cli, ["version", "-j"]).stdout)
    assert set(json.loads(before)) == {"nomx", "python", "kernel"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["lease", "list"],
        ["lease", "show", "L1"],
        ["lease", "release", "L1"],
        ["device", "list"],
        ["device", "unplug", "u"],
    ],
    ids=" ".join,
)
def test_no_daemon_is_exit_code_3_and_says_how_to_start_one(runner: Runner, arguments: list[str]) -> None:
    done = runner.invoke(cli, ["--socket", NOWHERE, *arguments])
    assert done.exit_code == NO_DAEMON
    assert "sudo nomx daemon" in done.stderr
    assert not done.stdout


def test_an_error_is_json_too(runner: Runner) -> None:
    done = runner.invoke(cli, ["-j", "--socket", NOWHERE, "lease", "list"])
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "NoDaemon"
    assert error["fields"]["socket"] == NOWHERE
    assert set(error) == {"kind", "message", "fields"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "/nonexistent/app.py"],
        ["run", "--memory", "many", "-m", "this"],
        ["run", "--bandwidth", "0", "-m", "this"],
        ["run", "--cores", "-1", "-m", "this"],
        ["run", "--path", "teleport", "-m", "this"],
        ["run", "--require", "magic", "-m", "this"],
        ["lease", "show"],
        ["device", "plug", "no-such-namespace"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2_and_names_what_was_wrong(runner: Runner, arguments: list[str]) -> None:
    done = runner.invoke(cli, ["--socket", NOWHERE, *arguments])
    assert done.exit_code == USAGE
    assert done.stderr


def test_doctor_tells_every_path_and_feature_as_json(runner: Runner) -> None:
    done = runner.invoke(cli, ["--socket", NOWHERE, "doctor", "-j"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert set(told) == {"features", "paths", "daemon", "daemon_paths", "no_daemon"}
    assert [verdict["path"] for verdict in told["paths"]] == ["kernel", "soft", "vf", "memif", "vfio"]
    assert all(set(verdict) == {"path", "available", "reason", "remedy"} for verdict in told["paths"])
    assert all(set(finding) == {"feature", "available", "reason", "remedy"} for finding in told["features"])


def test_doctor_tells_people_why_and_how_to_mend(runner: Runner) -> None:
    done = runner.invoke(cli, ["--socket", NOWHERE, "doctor"])
    assert done.exit_code == 0
    assert "not hand it out yet" in done.output
    assert "mend: " in done.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_for_nomx(runner: Runner, shell: str) -> None:
    done = runner.invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert "_NOMX_COMPLETE" in done.output


def test_completion_offers_the_commands(runner: Runner) -> None:
    env = {"_NOMX_COMPLETE": "bash_complete", "COMP_WORDS": "nomx le", "COMP_CWORD": "1"}
    done = runner.invoke(cli, [], env=env)
    assert "plain,lease" in done.output


def test_the_manual_names_every_command_option_and_exit_code() -> None:
    page = man_page(cli, "1")
    assert page.startswith('.TH NOMX 1 "" "nomx 1"')
    plain = page.replace(r"\-", "-")
    for entry in ENTRIES.values():
        assert entry.name in plain
        assert all(option in plain for option, _ in entry.options)
    assert all(meaning in plain for meaning in MEANINGS.values())


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man here to format the page with")
def test_the_manual_formats_without_a_warning(tmp_path: Path) -> None:
    page = tmp_path / "nomx.1"
    page.write_text(man_page(cli, "1"))
    done = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True, env={"MANWIDTH": "100"})
    assert done.returncode == 0
    assert not done.stderr
    assert "nomx lease release" in done.stdout


def test_the_reference_is_the_same_manual() -> None:
    headings = re.findall(r"^#+ (nomx.*)$", markdown(cli), flags=re.MULTILINE)
    assert headings == list(ENTRIES)


def documented_commands() -> list[str]:
    """Find each command line of nomx in the pages that a reader starts from."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("[!d_]*/*.md")), ROOT / "docs/tutorial.md"]
    lines = (line for page in pages if page.name != "cli.md" for line in page.read_text().splitlines())
    return sorted(
        {match[1].split("#")[0].strip() for line in lines if (match := re.match(r"[#$] (?:sudo )?nomx ([^$]*)", line))}
    )


@pytest.mark.parametrize("line", documented_commands())
def test_commands_in_the_documentation_exist(line: str) -> None:
    words = line.split(" -- ", maxsplit=1)[0].split()  # what is after it is another program's
    ctx = click.Context(cli, info_name="nomx")
    command = cli.get_command(ctx, words[0])
    while isinstance(command, click.Group):
        named, words = command.get_command(ctx, words[1]) if len(words) > 1 else None, words[1:]
        command = named or command.get_command(ctx, "live")  # `nomx trace` alone means its first
    assert command is not None
    known = {name for parameter in command.params for name in parameter.opts}
    options = [word for word in words[1:] if word.startswith("-")]
    assert set(options) <= known | {"--group"}


def test_commands_of_dev_in_the_readme_exist() -> None:
    named = set(
        re.findall(r"\./dev ([a-z]+)", (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text())
    )
    offered = subprocess.run([ROOT / "dev", "help"], check=True, capture_output=True, text=True).stdout
    assert named - {"command"} <= {line.split()[0] for line in offered.splitlines()[1:]}
