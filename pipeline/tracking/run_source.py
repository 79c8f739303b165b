"""Who started a run, with which command and which code: MLflow's tags of a run's source."""

import getpass
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.report.redaction import without_password
from pipeline.runtime.launcher import command_line, program_name

COMMAND_TAG, COMMIT_TAG = "headrace.command", "mlflow.source.git.commit"
GIT_TIMEOUT = 5.0
"""Seconds that a call of git may take, such as on a slow network file system."""
PACKAGE = Path(__file__).parents[1]


def source_tags() -> dict[str, str]:
    """Return the tags of user, program, command and git commit.

    It runs git and may wait for a directory of users, so it is not for the training thread.
    """
    tags = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": program_name(),
        COMMAND_TAG: without_password(command_line()),
    }
    if user := _user():
        tags["mlflow.user"] = user
    return tags | git_tags(_code_folders())


def git_tags(folders: Sequence[Path]) -> dict[str, str]:
    """Return the tags of the first of the folders that is in a git repository with a commit.

    There are none without git, without a repository, or if git takes too long.
    """
    for folder in folders:
        found = _git(folder, "rev-parse", "HEAD", "--abbrev-ref", "HEAD").split()
        if len(found) != 2:
            continue
        commit, branch = found
        tags = {COMMIT_TAG: commit}
        if branch != "HEAD":  # else no branch is checked out
            tags["mlflow.source.git.branch"] = branch
        if url := _git(folder, "config", "--get", "remote.origin.url"):
            tags["mlflow.source.git.repoURL"] = without_password(url)
        if _git(folder, "status", "--porcelain", "--untracked-files=no"):
            tags["mlflow.source.git.dirty"] = "true"
        return tags
    return {}


def _code_folders() -> list[Path]:
    """Return the folder of this package, unless it is installed, and the current one."""
    is_installed = {"site-packages", "dist-packages"} & set(PACKAGE.parts)
    return [*([] if is_installed else [PACKAGE]), Path.cwd()]


def _git(folder: Path, *arguments: str) -> str:
    """Return the output of git; empty if it fails. It takes no lock of the repository."""
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
