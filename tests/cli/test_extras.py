"""Each extra of the package installs all that its commands import."""

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from benchmarks.wheelhouse import closure
from tests.helpers.corpora import small_run_overrides, write_reviews
from tests.helpers.processes import REPOSITORY

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
RUN_COMMAND = """
import runpy, sys
hidden = set({hidden!r})
class Filtered:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name in hidden else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = map(Filtered, sys.meta_path)
sys.path.insert(0, {repository!r})
sys.argv = ["headrace", *sys.argv[1:]]
runpy.run_module("pipeline.cli", run_name="__main__")
"""


def run_with_extras(extras: set[str], *arguments: str) -> None:
    """Run a command that can import only the package's requirements with the given extras."""
    distributions = closure("headrace", extras, set(), PYTHON)
    hidden = [
        module
        for module, names in packages_distributions().items()
        if not any(canonicalize_name(name) in distributions for name in names)
    ]
    code = RUN_COMMAND.format(hidden=hidden, repository=str(REPOSITORY))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_extras_install_what_their_commands_import(tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv", 300)
    run = [*small_run_overrides(tmp_path), f"run.dir={tmp_path}/run", "train.max_steps=2"]
    run_with_extras({"prepare"}, "prepare", *run)
    run_with_extras(set(), "train", *run)
    use = ["--run", f"{tmp_path}/run", "--input", f"{tmp_path}/reviews.csv"]
    run_with_extras({"predict"}, "evaluate", *use)
    run_with_extras({"predict"}, "predict", *use)
