"""The keys of chosen components are part of their section; others are refused."""

from pathlib import Path

import pytest

from pipeline import components, config
from pipeline.errors import ConfigError
from pipeline.models.cells.lstm import Lstm
from pipeline.optim.optimizers.adamw import AdamW
from pipeline.optim.schedules.cosine import Cosine
from pipeline.settings import Section
from pipeline.training.settings import TrainSettings, train_settings

TEMPLATE = """
from pipeline.optim.base import Algorithm, Schedule
from pipeline.optim.optimizers.sgd import SGD
from pipeline.optim.settings import OptimizerSettings
from pipeline.settings import setting

class MyOptimizer(SGD):
    class Settings(SGD.Settings):
        speed: int = setting(1, "speed of the optimizer")

class MySchedule(Schedule):
    class Settings(OptimizerSettings):
        speed: int = setting(2, "speed of the schedule")
    def factor(self, progress):
        return 1.0
"""


def composed(values: dict[str, object]) -> type[Section]:
    return components.compose({"train": TrainSettings}, {"train": values})["train"]


def error_lines(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(None, overrides)
    return caught.value.lines


def test_a_section_has_the_keys_of_all_chosen_components() -> None:
    section = composed({})
    assert issubclass(section, AdamW.Settings)
    assert issubclass(section, Cosine.Settings)
    assert issubclass(section, TrainSettings)
    assert composed({"optimizer": "adamw"}) is section
    assert not hasattr(train_settings(optimizer="sgd"), "beta1")


def test_a_component_can_use_the_keys_of_another() -> None:
    settings = config.load(None, ["model.cell=grid_lstm", "model.forget_bias=2"]).model
    assert isinstance(settings, Lstm.Settings)
    assert settings.forget_bias == 2


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (
            ["train.optimizer=sgd", "train.beta1=0.5"],
            "train.beta1=0.5: applies only to train.optimizer=adamw and would be ignored with",
        ),
        (
            ["train.decay_fraction=0.5"],
            "train.decay_fraction=0.5: applies only to train.schedule=warmup_stable_decay and",
        ),
    ],
)
def test_keys_of_other_components_are_one_line(overrides: list[str], expected: str) -> None:
    (line,) = error_lines(*overrides)
    assert line.startswith(expected)


def test_a_key_of_another_component_may_have_its_default() -> None:
    settings = config.load(None, ["train.optimizer=sgd", "train.beta1=0.9"])
    assert "beta1" not in settings.train.model_dump()


def test_keys_that_clash_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(TEMPLATE)
    chosen = [f"train.optimizer={path}:MyOptimizer", f"train.schedule={path}:MySchedule"]
    assert config.load(None, chosen[:1]).train.model_dump()["speed"] == 1
    assert error_lines(*chosen) == [
        "train.speed: MyOptimizer and MySchedule both declare this key; rename it in one of them"
    ]


def test_several_wrong_components_are_reported_at_once() -> None:
    lines = error_lines("model.cell=lstmm", "train.optimizer=adam", "train.schedule=cos")
    assert [line.partition(":")[0] for line in lines] == [
        "model.cell=lstmm", "train.optimizer=adam", "train.schedule=cos",
    ]  # fmt: skip


def test_help_has_the_keys_of_the_chosen_components_or_of_all() -> None:
    chosen = config.help_text(None, ["model.cell=goru"])
    assert "model.goru_capacity" in chosen
    assert "model.forget_bias" not in chosen
    assert "one of elman, goru, grid_lstm, gru, lstm, module:Class or file.py:Class" in chosen
    everything = config.help_text(None, ["model.cell=goru"], all_components=True)
    assert "\nmodel.cell=elman\n  model.activation" in everything
    assert "train.plateau_factor" in everything
    block = everything.partition("\ntask.name=translation\n")[2].partition("\ncorpus.format=")[0]
    keys = [line.split()[0] for line in block.splitlines()]
    assert {"task.beam_size", "model.bridge", "corpus.target"} <= set(keys)
    assert len(keys) == len(set(keys))


def test_a_dumped_config_is_read_back_unchanged(tmp_path: Path) -> None:
    settings = config.load(None, ["model.cell=elman", "train.schedule=plateau"])
    path = tmp_path / "config.yaml"
    path.write_text(config.dump(settings))
    assert config.load(path) == settings
    assert config.flatten(settings)["model.activation"] == "tanh"


def test_a_component_cannot_redeclare_a_key_of_the_section(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(TEMPLATE.replace("speed: int = setting(2", "patience: int = setting(3"))
    assert error_lines(f"train.schedule={path}:MySchedule") == [
        "train.patience: MySchedule.Settings declares a key that the section has; rename it"
    ]


def test_groups_are_logged_as_plain_values() -> None:
    settings = config.load(None, ["train.groups=[{pattern: x, freeze: true}]"])
    assert config.flatten(settings)["train.groups"][0]["freeze"] is True
