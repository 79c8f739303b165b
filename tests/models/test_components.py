"""A user's encoder, pooling, attention and head in a file, and the keys of the built-in ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline import components, config
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.models.classifier import Classifier
from pipeline.models.encoder import Encoder, encoder, parameters_by_depth
from pipeline.models.heads.mlp import MlpHead
from pipeline.models.translator import Translator
from tests.helpers.corpora import small_run_overrides
from tests.helpers.settings import model_settings

MINE = """
import torch
from torch import nn
from pipeline.models.attention import Attention
from pipeline.models.encoder import Encoder
from pipeline.models.head import Head
from pipeline.models.layers.recurrent import Layer
from pipeline.models.pooling import Pooling
from pipeline.models.settings import EncoderSettings
from pipeline.settings import setting

class Convolutional(Encoder):
    \"\"\"A convolution between two recurrent layers.\"\"\"
    class Settings(EncoderSettings):
        kernel: int = setting(3, "width of the convolution", ge=1)
    def __init__(self, inputs, settings, plane=(0, 0)):
        super().__init__(inputs, settings, plane)
        units = settings.hidden * (1 + settings.bidirectional)
        self.outputs = units
        self.first = Layer(inputs, settings, bidirectional=settings.bidirectional)
        self.convolution = nn.Conv1d(units, units, settings.kernel, padding="same")
        self.second = Layer(units, settings, bidirectional=settings.bidirectional)
    def forward(self, x, lengths, keys, initial=()):
        y, _ = self.first(x, lengths, keys)
        y = self.convolution(y.permute(1, 2, 0)).permute(2, 0, 1).relu()
        y, _ = self.second(y, lengths, keys)
        return y, []

class First(Pooling):
    def __init__(self, features, settings):
        super().__init__(features, settings)
        self.outputs = features
    def forward(self, states, lengths):
        return states[0]

class Scaled(Head):
    def __init__(self, inputs, outputs, settings):
        super().__init__(inputs, outputs, settings)
        self.linear = nn.Linear(inputs, outputs)
    def forward(self, pooled):
        return 2 * self.linear(pooled)

class Cosine(Attention):
    def key_size(self, queries, settings):
        return queries
    def scores(self, queries, keys):
        q, k = (nn.functional.normalize(x, dim=-1) for x in (queries, keys))
        return torch.bmm(q.transpose(0, 1), k.permute(1, 2, 0))
"""


@pytest.fixture
def mine(tmp_path: Path) -> Callable[[str], str]:
    """A function from the name of a class in MINE to its reference."""
    path = tmp_path / "mine.py"
    path.write_text(MINE.replace('\\"', '"'))
    return lambda name: f"{path}:{name}"


def load(task: str, *overrides: str) -> Config:
    return config.load(None, [*small_run_overrides(Path(), task), *overrides])


def test_a_model_of_a_users_parts_does_not_depend_on_padding(mine: Callable[[str], str]) -> None:
    torch.manual_seed(0)
    settings = load(
        "classification", f"model.encoder={mine('Convolutional')}", "model.kernel=1",
        f"model.pooling={mine('First')}", f"model.head={mine('Scaled')}",
    ).model  # fmt: skip
    assert isinstance(settings, Classifier.Settings)
    model = Classifier(settings, 50, 3).eval()
    tokens, keys = torch.randint(1, 50, (1, 9)), torch.tensor([0])
    short = model(tokens[:, :5], torch.tensor([5]), keys)
    assert torch.allclose(model(tokens, torch.tensor([5]), keys), short, atol=1e-6)
    head, encoder_parameters, embedding = parameters_by_depth(model)
    assert len(head) == 2
    assert len(embedding) == 1
    assert len(encoder_parameters) == len(list(model.stack.parameters()))


def test_translation_attends_by_a_users_attention(mine: Callable[[str], str]) -> None:
    settings = load("translation", f"model.attention={mine('Cosine')}")
    components.load("attention", settings.model.model_dump()["attention"])


@pytest.mark.parametrize("task", ["language_modeling", "translation"])
def test_an_encoder_without_state_is_one_line(task: str, mine: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(task, f"model.encoder={mine('Convolutional')}", "model.independent_directions=false")
    assert any("no recurrent state" in line or "no final states" in line
               for line in caught.value.lines)  # fmt: skip


def test_keys_of_other_parts_are_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load("classification", "model.head_size=8", "model.attention_size=8")
    attention, head = caught.value.lines
    assert attention.startswith(
        "model.attention_size=8: applies only to task.name=captioning or translation and would"
    )
    assert head.startswith("model.head_size=8: applies only to model.head=mlp and would be")
    assert "with model.head=linear" in head


def test_mlp_head_has_a_hidden_layer() -> None:
    torch.manual_seed(0)
    head = MlpHead(6, 3, model_settings(head="mlp", head_size=5))
    x = torch.randn(4, 6)
    hidden = (x @ head.hidden.weight.T + head.hidden.bias).clamp(min=0)
    assert torch.allclose(head(x), hidden @ head.scores.weight.T + head.scores.bias)


def test_the_cell_may_choose_the_encoder() -> None:
    settings = load("classification", "model.cell=grid_lstm").model
    built: Encoder = encoder(4, model_settings(cell="grid_lstm", hidden=4))
    assert type(built).__name__ == "GridStack"
    assert settings.model_dump()["encoder"] == "stack"
    load("classification", "model.cell=grid_lstm", "model.encoder=grid")
    with pytest.raises(ConfigError, match=r"model\.encoder=grid: is that of model\.cell=grid_lstm"):
        load("classification", "model.encoder=grid")


@pytest.mark.parametrize("directions", [{"independent_directions": True}, {"reverse": True}])
def test_translation_reads_directions_apart(directions: dict[str, bool]) -> None:
    torch.manual_seed(0)
    backward = {"bidirectional": False} if "reverse" in directions else {}
    model = Translator(model_settings(hidden=4, embedding=4, **directions, **backward), 13).eval()
    source, target = torch.randint(4, 13, (1, 6)), torch.randint(4, 13, (1, 3))
    lengths, target_lengths, keys = torch.tensor([4]), torch.tensor([3]), torch.tensor([0])
    padded = model(source, lengths, target, target_lengths, keys)
    short = model(source[:, :4], lengths, target, target_lengths, keys)
    assert torch.allclose(padded, short, atol=1e-6)
    assert "independent_directions" in load("images").model.model_dump()


def test_a_pooling_that_does_not_set_its_outputs_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pipeline.models.pooling import Pooling\n\n"
        "class Mine(Pooling):\n    def forward(self, states, lengths):\n        return states[0]\n"
    )
    settings = model_settings(pooling=f"{tmp_path}/mine.py:Mine", hidden=4)
    with pytest.raises(ConfigError, match=r"Mine.__init__ does not set self.outputs; add it"):
        Classifier(settings, 9, 2)
