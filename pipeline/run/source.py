"""The source of a run: user, command and git commit."""

import getpass
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.runtime.launcher import command_line, program_name
from pipeline.storage.redaction import without_password

GIT_TIMEOUT = 5.0
"""Seconds that a call of git may take; a network file system may be slow."""
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Repository:
    """State of a git repository."""

    commit: str
    branch: str
    """Empty if no branch is checked out."""
    url: str
    """URL of the remote `origin`, without passwords; empty if there is none."""
    dirty: bool
    """Whether tracked files differ from the commit."""


@dataclass(frozen=True)
class RunSource:
    """The origin of a run."""

    program: str
    """`headrace train`, or the launch script."""
    command: str
    """Command line, without passwords."""
    user: str
    """Name of the user; empty if it is unknown."""
    repository: Repository | None
    """The repository around the code or, without one, around the current folder."""


def run_source() -> RunSource:
    """Return the source of this process's run.

    It runs git and may wait for a user directory (LDAP), so do not call it while training waits.
    """
    command = without_password(command_line())
    return RunSource(program_name(), command, _user(), find_repository(_code_folders()))


def find_repository(folders: Sequence[Path]) -> Repository | None:
    """Return the state of the first repository with a commit that contains one of the folders.

    Return None without such a repository, without git, or if git takes too long.
    """
    for folder in folders:
        found = _git(folder, "rev-parse", "HEAD", "--abbrev-ref", "HEAD").split()
        if len(found) == 2:
            commit, branch = found
            return Repository(
                commit=commit,
                branch="" if branch == "HEAD" else branch,
                url=without_password(_git(folder, "config", "--get", "remote.origin.url")),
                dirty=bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
            )
    return None


def _code_folders() -> list[Path]:
    """Return the folder of this package, unless it is installed, and the current one."""
    is_installed = {"site-packages", "dist-packages"} & set(PACKAGE.parts)
    return [*([] if is_installed else [PACKAGE]), Path.cwd()]


def _git(folder: Path, *arguments: str) -> str:
    """Return the output of git; empty if it fails. The repository is not locked."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, errors="replace", timeout=GIT_TIMEOUT, check=True,
            stdin=subprocess.DEVNULL, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""
