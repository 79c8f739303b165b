"""A user's task with a field kind of its own, in one file, prepared by two processes."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline import components, config
from pipeline.components import loading
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.errors import ConfigError
from tests.helpers.corpora import small_run_overrides, write_reviews
from tests.helpers.processes import REPOSITORY, call, run

FILE = '''
from typing import Any

from torch import nn

from pipeline.corpus.column_type import ColumnType
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, FieldKind
from pipeline.corpus.fields.kinds.text import TextField
from pipeline.corpus.settings import CorpusSettings
from pipeline.models.classifier import Classifier
from pipeline.settings import setting
from pipeline.tasks.base.row_task import RowTask


class Shouting(FieldKind):
    """Whether a text contains a mark."""

    class Settings(CorpusSettings):
        mark: str = setting("!", "what a shout contains")

    is_input = False

    def check(self, value):
        return str(value)

    def encode(self, values, context):
        return [Cells([int(self.settings.mark in value)]) for value in values]

    @staticmethod
    def column_type(field, vocabulary):
        return ColumnType("int32")


class Shouts(RowTask):
    """Binary classification without label names."""

    uses = (Classifier, TextField, Shouting)
    best_metric, lower_is_better = "loss", True

    def __init__(self, settings, model, data):
        self.settings, self.model, self.data = settings, model, data

    @staticmethod
    def fields(corpus):
        return (
            FieldSpec("tokens", corpus.text, "text"),
            FieldSpec("shout", corpus.text, Shouting),
        )

    def build(self):
        return Classifier(self.model, self.data.vocabularies["tokenizer"], 1)

    def forward(self, model, batch):
        return model(batch.columns["tokens"], batch.lengths, batch.keys)

    def row_losses(self, outputs, batch):
        target = batch.columns["shout"].to(outputs.dtype)
        return nn.functional.binary_cross_entropy_with_logits(
            outputs[:, 0], target, reduction="none"
        )

    def predict(self, outputs, given):
        return [{"shout": bool(x > 0)} for x in outputs[:, 0].tolist()]
'''


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    write_reviews(tmp_path / "reviews.csv", 600)
    (tmp_path / "shouts.py").write_text(FILE)
    small = [o for o in small_run_overrides(tmp_path) if "workers" not in o]
    return [
        *small, f"task.name={tmp_path}/shouts.py:Shouts", "corpus.mark=fine", "corpus.workers=2",
        "corpus.chunk_mb=0.005", f"run.dir={tmp_path}/run",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.distributed
def test_a_task_with_its_own_field_kind_is_prepared_trained_and_used(
    overrides: list[str], tmp_path: Path
) -> None:
    status, _, err = run(*overrides, "train.epochs=8", "train.lr=1e-2")
    assert status == 0, err
    manifest = open_dataset(tmp_path / "shards")
    assert manifest.fields[1].kind == "shouts.py:Shouting"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["metric"] == "loss"
    shutil.move(tmp_path / "shouts.py", tmp_path / "moved.py")  # the run's copy is enough
    lines = "the fine film and a plot\nthe dull film and a plot\n"
    status, out, err = call("predict", "--run", str(tmp_path / "run"), text=lines)
    assert status == 0, err
    assert [json.loads(line)["shout"] for line in out.splitlines()] == [True, False]
    status, out, err = call(
        "evaluate", "--run", str(tmp_path / "run"), "--input", str(tmp_path / "reviews.csv")
    )
    assert status == 0, err
    assert json.loads(out)["loss"] < 0.4


def test_shards_of_another_version_of_the_code_are_refused(
    overrides: list[str], tmp_path: Path
) -> None:
    small = [*overrides, "corpus.workers=1"]
    status, _, err = call("prepare", *small)
    assert status == 0, err
    path = tmp_path / "shouts.py"
    path.write_text(FILE.replace("in value)", "not in value)"))
    loading._load_from_file.cache_clear()
    status, _, err = call("prepare", *small)
    assert status == 2
    assert "shouts.py:Shouting: the code of this field kind has changed since" in err


def test_a_dataset_cannot_name_code_to_import(tmp_path: Path) -> None:
    """A field kind must be in a file that the config names."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    with pytest.raises(ConfigError, match="no component that the config names is in"):
        components.load("field", f"{tmp_path}/evil.py:Kind")
    with pytest.raises(ConfigError, match="no component that the config names is in antigravity"):
        components.load("field", "antigravity:Kind")
    assert not (tmp_path / "was_run").exists()


def test_keys_of_the_task_and_of_its_kinds_are_in_their_sections(overrides: list[str]) -> None:
    settings = config.load(None, overrides)
    assert settings.corpus.model_dump()["mark"] == "fine"
    assert "label" not in settings.corpus.model_dump()
    assert str(REPOSITORY) not in config.dump(settings)


MISTAKES = {
    "a method of an earlier version": (
        FILE.replace("def column_type", "def arrow_type"),
        "Shouting defines arrow_type; write column_type, which returns a ColumnType, instead",
    ),
    "uses": (
        FILE.replace("(Classifier, TextField, Shouting)", "(Classifier, Shouting)"),
        "Shouts.fields reads corpus.text, which no class of Shouts.uses declares; add the field",
    ),
    "parse": (
        FILE.replace("is_input = False", "is_input = True"),
        "Shouts.parse returns no value for the field 'shout', which the model reads; define parse",
    ),
    "predicts": (
        FILE.replace("    uses = (", '    predicts = "number"\n    uses = ('),
        "TypeError: Shouts sets predicts without a method scored(outputs, batch); fix it",
    ),
}


@pytest.mark.parametrize("content, expected", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_in_a_task_are_one_line_before_preparing(
    content: str, expected: str, overrides: list[str], tmp_path: Path
) -> None:
    (tmp_path / "shouts.py").write_text(content)
    if "Classifier, Shouting" in content:  # nothing has the keys of texts then
        overrides = [o for o in overrides if "vocab_size" not in o]
        overrides += [
            "corpus.replace={}",
            "corpus.truncation_side=start",
            "corpus.vocab_size=16000",
        ]
    status, _, err = call("prepare", *overrides)
    assert status == 2
    assert [line for line in err.splitlines() if expected in line]
    assert not (tmp_path / "shards").exists()
