"""The packages that a wheelhouse contains, by the metadata of those installed here."""

import sys
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

from benchmarks.wheelhouse import PREINSTALLED, applies, closure, pinned_versions
from tests.helpers.processes import REPOSITORY

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_closure_has_requirements_of_requirements_but_nothing_of_the_image() -> None:
    names = closure("headrace", {"prepare"}, PREINSTALLED, PYTHON)
    assert {"headrace", "pydantic", "pydantic-core", "webdataset", "tokenizers"} <= names
    assert not names & {"torch", "sympy", "numpy", "pyarrow", "sacrebleu", "mlflow"}
    assert "sacrebleu" in closure("headrace", {"translate"}, PREINSTALLED, PYTHON)


def test_all_packages_of_a_wheelhouse_are_pinned() -> None:
    pins = pinned_versions((REPOSITORY / "requirements.txt").read_text())
    names = closure("headrace", {"run"}, set(), PYTHON) - closure("torch", set(), set(), PYTHON)
    assert names - {"headrace"} <= pins.keys()
    assert pins["pydantic-core"] == version("pydantic-core")


@pytest.mark.parametrize(
    "line, expected",
    [
        ("a", True),
        ("a; python_version < '3.12'", False),
        ("a; sys_platform == 'win32'", False),
        ("a; extra == 'x'", True),
        ("a; extra == 'y'", False),
    ],
)
def test_markers_are_those_of_the_other_machine(line: str, expected: bool) -> None:
    assert applies(Requirement(line), frozenset({"x"}), "3.12") is expected
