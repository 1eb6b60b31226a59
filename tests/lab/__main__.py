"""The lab as a command: `python -m tests.lab shell` is a prompt in the guest, `... run CMD` runs one command."""

from __future__ import annotations

import argparse
import sys

from tests.lab.guest import Guest, GuestFailed
from tests.lab.machine import Topology
from tests.lab.packages import KERNELS, LabUnavailable


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    parser.add_argument("--kernel", choices=KERNELS, default="backports")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="deadline of one command")
    parser.add_argument("--no-iommu", action="store_true")
    parser.add_argument("--numa", action="store_true", help="two nodes, the NICs on the second")
    parser.add_argument("verb", choices=("shell", "run"))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.verb == "run" and not given.command:
        parser.error("run: which command?")
    topology = Topology(kernel=given.kernel, iommu=not given.no_iommu, numa=given.numa)
    _say("fetching what is missing, then booting ...")
    try:
        with Guest(topology) as guest:
            _say(f"Linux {guest.release} under {guest.acceleration}")
            if given.verb == "run":
                return _run(guest, " ".join(given.command), given.timeout)
            return _shell(guest, given.timeout)
    except (LabUnavailable, GuestFailed) as error:
        _say(str(error))
        return 1


def _say(text: str) -> None:
    sys.stderr.write(f"lab: {text}\n")


def _run(guest: Guest, command: str, timeout_s: float) -> int:
    result = guest.run(command, timeout_s, check=False)
    sys.stdout.write(result.out)
    return result.rc


def _shell(guest: Guest, timeout_s: float) -> int:
    """Read commands until the end of input; each runs in a bash of its own, in the folder that `cd` chose last."""
    folder = "/root"
    while True:
        try:
            line = input(f"lab:{folder}# ")
        except EOFError:
            return 0
        if line.strip():
            result = guest.run(f"cd {folder}; {line}\nrc=$?; pwd > /run/lab-folder; exit $rc", timeout_s, check=False)
            sys.stdout.write(result.out)
            folder = guest.run("cat /run/lab-folder", check=False).out.strip() or folder


if __name__ == "__main__":
    sys.exit(main())
