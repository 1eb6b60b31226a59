"""Whom an application runs as: the account, the environment that goes with it, and where it may cache compiled code."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nomx.errors import InvalidRequest, MechanismError, NotPermitted

_CACHE_ROOT = Path("/var/cache")
_PERSONAL = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "MAIL")
"""Variables that name files of whoever set them, and lead another user astray."""


@dataclass(frozen=True)
class Account:
    """A user as a process needs it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: Path
    shell: str

    @property
    def is_ours(self) -> bool:
        """Whether this process is that user already."""
        return os.geteuid() == self.uid


def resolve(user: str | None) -> Account:
    """Find the account of *user*, a name or a uid; None means who ran this program, before sudo if that was used.

    Raises:
        InvalidRequest: no such user.
        NotPermitted: another user, and we are not root.
    """
    if user is None and os.geteuid() == 0:
        user = os.environ.get("SUDO_UID")
    entry = _entry(user if user is not None else str(os.geteuid()))
    if os.geteuid() not in (0, entry.pw_uid):
        missing = f"you are uid {os.geteuid()}, and only root runs programs as others"
        raise NotPermitted(operation=f"running as {entry.pw_name}", missing=missing, remedy="use sudo")
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, Path(entry.pw_dir), entry.pw_shell)


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise InvalidRequest(field="user", value=repr(user), expected="a user of this system") from None


def environment(account: Account, inherited: Mapping[str, str], instance: str) -> dict[str, str]:
    """Return the environment of an application: the launcher's, with what is personal made *account*'s.

    Makes the cache directory if it is one that only root can make.
    """
    result = dict(inherited)
    if not account.is_ours:
        for name in (*_PERSONAL, "NUMBA_CACHE_DIR"):
            result.pop(name, None)
        result |= {"HOME": str(account.home), "USER": account.name, "LOGNAME": account.name, "SHELL": account.shell}
    if "NUMBA_CACHE_DIR" not in result and (cache := _cache(account, result, instance)):
        result["NUMBA_CACHE_DIR"] = str(cache)
    return result


def _cache(account: Account, variables: Mapping[str, str], instance: str) -> Path | None:
    """Return where *account* can keep compiled code; None where it can nowhere, and compiles anew each time."""
    if "XDG_CACHE_HOME" in variables:
        return Path(variables["XDG_CACHE_HOME"], "nomx")
    try:
        home = account.home.stat()
    except OSError:
        home = None
    if home is not None and home.st_uid == account.uid and home.st_mode & stat.S_IWUSR:
        return account.home / ".cache" / "nomx"
    return _make_cache(_CACHE_ROOT / instance / str(account.uid), account) if os.geteuid() == 0 else None


def _make_cache(directory: Path, account: Account) -> Path:
    """Make a directory that is *account*'s alone.

    Raises: MechanismError: somebody else's is in its place.
    """
    try:
        directory.parent.mkdir(mode=0o755, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, account.uid):
            raise FileExistsError(17, "it belongs to somebody else", str(directory))
        os.chown(directory, account.uid, account.gid, follow_symlinks=False)
    except OSError as error:
        hint = "set NUMBA_CACHE_DIR to a directory of the user's"
        raise MechanismError(operation="making a cache directory", reason=str(error), hint=hint) from error
    return directory
