"""Each mistake with a component is one line; components come from three kinds of places."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pipeline import components
from pipeline.components import kinds, loading
from pipeline.errors import ConfigError
from pipeline.models.cells.lstm import Lstm
from pipeline.optim.schedules.cosine import Cosine

CELL = """
from pipeline.models.cell import Dense

class Mine(Dense):
    gates = 1
    def step(self, wx, uh, last_h, last_c):
        return (wx + uh).tanh(), last_c
"""
FILES = {
    "missing class": (CELL.replace("Mine", "Other"), "there is no class Mine; it has Other"),
    "no class": ("x = 1", "there is no class Mine; it has no class"),
    "syntax": ("class Mine(:", "cannot be imported: line 1: SyntaxError: invalid syntax"),
    "error": ("\nx = unknown", "cannot be imported: line 2: NameError: name 'unknown' is not def"),
    "not a cell": ("class Mine: pass", "Mine is not a cell; derive it from pipeline.models.cell."),
    "no step": (
        "from pipeline.models.cell import Dense\nclass Mine(Dense): gates = 1",
        "Mine does not define step(self, wx, uh, last_h, last_c); add it",
    ),
    "other parameters": (
        CELL.replace("uh, last_h, last_c", "uh"),
        "Mine.step has other parameters than the base class: (self, wx, uh, last_h, last_c)",
    ),
    "settings of another class": (
        (
            "from pipeline.models.cells.lstm import Lstm\n"
            "from pipeline.models.settings import ModelSettings\n"
            "class Mine(Lstm):\n    class Settings(ModelSettings): pass"
        ),
        "Mine.Settings must derive from Lstm.Settings; change its base",
    ),
    "a key again": (
        (
            "from pipeline.models.cells.lstm import Lstm\n"
            "from pipeline.settings import setting\n"
            "class Mine(Lstm):\n    class Settings(Lstm.Settings):\n"
            "        forget_bias: int = setting(3, 'bias')"
        ),
        "Mine.Settings declares the key forget_bias, which Lstm.Settings has; rename it",
    ),
    "uses": (CELL.replace("gates = 1", "gates = 1\n    uses = (int)"), "Mine.uses must be a tuple"),
    "no gates": (CELL.replace("gates = 1", "x = 1"), "Mine does not define gates; add it"),
    "constructor": (
        CELL + "    def __init__(self, settings):\n        pass\n",
        "Mine.__init__ has other parameters than the base class: (self, input_size, settings)",
    ),
    "sibling": (f"import helper\n{CELL}", "line 1 imports helper; a component is one file"),
    "relative": (f"from . import helper\n{CELL}", "line 1 imports a file beside it"),
}


def load(reference: str) -> type:
    return components.load("cell", reference)


def error(reference: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(reference)
    (line,) = caught.value.lines
    return line


@pytest.mark.parametrize("content, expected", FILES.values(), ids=FILES)
def test_mistakes_in_a_file_are_one_line(content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("")
    path = tmp_path / "mine.py"
    path.write_text(content)
    line = error(f"{path}:Mine")
    assert line.startswith(f"model.cell={path}:Mine: {expected}")
    assert "\n" not in line


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    assert error(f"{path}:Mine") == f"model.cell={path}:Mine: there is no file {path}; correct it"


@pytest.mark.parametrize(
    "reference, expected",
    [
        ("lstmm", "no such cell; did you mean lstm? (or module:Class, or file.py:Class)"),
        ("mine.py", "names a file, not a class; write mine.py:Class"),
        ("transformer", "no such cell; use elman, goru, grid_lstm, gru, lstm (or"),
        ("no.such.module:Mine", "cannot be imported: ModuleNotFoundError: No module named 'no'"),
        ("pipeline.models.cells.lstm:Mine", "there is no class Mine; it has Lstm"),
    ],
)
def test_unknown_names_and_modules_are_one_line(reference: str, expected: str) -> None:
    assert error(reference).startswith(f"model.cell={reference}: {expected}")


def test_a_class_is_loaded_from_a_file_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(CELL)
    mine = load(f"{path}:Mine")
    assert mine.__name__ == "Mine"
    assert load(f"{path}:Mine") is mine
    assert sys.modules[mine.__module__].Mine is mine, "its objects can be pickled"
    copy = tmp_path / "copy.py"
    copy.write_text(CELL)
    assert load(f"{copy}:Mine") is mine, "the same code is the same class"


def test_every_built_in_component_is_found_by_its_module() -> None:
    for kind in components.KINDS:
        for name in components.names(kind):
            found = components.load(kind, name)
            assert found.__module__ == f"{components.KINDS[kind].package}.{name}"
            assert found.__doc__
    assert load("lstm") is Lstm
    assert components.load("schedule", "cosine") is Cosine


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    point = EntryPoint(request.param, "pipeline.models.cells.gru:Gru", kinds.ENTRY_POINTS)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point])
    caches = (kinds._entry_points, kinds.entry_points_of, loading._load_named)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("entry_point", ["cell.mine"], indirect=True)
@pytest.mark.usefixtures("entry_point")
def test_an_installed_package_can_register_a_short_name() -> None:
    assert load("mine").__name__ == "Gru"
    assert "mine" in components.names("cell")
    assert "mine" not in components.names("schedule")


@pytest.mark.parametrize("entry_point", ["cell.elman"], indirect=True)
@pytest.mark.usefixtures("entry_point")
def test_a_name_that_exists_twice_is_one_line() -> None:
    assert error("elman").startswith(
        "model.cell=elman: this cell exists twice: in Headrace, and as the entry point "
        "pipeline.models.cells.gru:Gru; write pipeline.models.cells.gru:Gru, or remove"
    )


def test_only_components_that_are_not_built_in_have_a_source(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(CELL)
    source = components.source("cell", f"{path}:Mine")
    assert source is not None
    assert (source.path, source.is_file, source.version) == (path, True, "")
    assert components.source("cell", "lstm") is None


def test_a_class_that_a_file_only_imports_is_recorded_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from pipeline.models.cells.gru import Gru as Mine\n")
    source = components.source("cell", f"{path}:Mine")
    assert source is not None
    assert (source.path, source.is_file) == (path, True)


@pytest.mark.parametrize("entry_point", ["cell.mine"], indirect=True)
@pytest.mark.usefixtures("entry_point")
def test_the_module_of_a_short_name_is_that_of_its_entry_point() -> None:
    assert components.module_of("cell", "mine") == "pipeline.models.cells.gru"
    assert components.module_of("cell", "package.module:Class") == "package.module"
