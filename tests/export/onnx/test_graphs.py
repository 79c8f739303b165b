"""Each setting of a model: the graph's outputs equal the model's, or the setting is refused."""

import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch

from pipeline import components
from pipeline.errors import RunError
from pipeline.export.onnx import check, tasks
from pipeline.export.onnx.tasks import task_export
from pipeline.models.attentions.dot import DotAttention
from pipeline.models.cells.lstm import Lstm
from pipeline.models.encoders.stack import Stack
from pipeline.models.heads.linear import LinearHead
from pipeline.models.poolings.last import Last
from pipeline.tasks.classification import Classification
from tests.export.onnx.small_models import check_parts, small_model, written_parts
from tests.helpers.settings import ModelKeys

TEXT, TAGS, LM, PAIRS = "classification", "tagging", "language_modeling", "translation"
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((TEXT, {"cell": cell, "layers": 3}) for cell in ("lstm", "gru", "elman", "goru")),
    *(
        (TEXT, {"cell": cell, "pooling": "last", "bidirectional": False, "skip": "residual"})
        for cell in ("lstm", "gru", "elman", "goru")
    ),
    *(
        (TEXT, {"cell": cell, "zoneout": 0.3, "layer_norm": True, "pooling": "last"})
        for cell in ("lstm", "gru", "elman", "goru")
    ),
    (TEXT, {"zoneout_memory": 0.2, "skip": "highway", "layers": 3}),
    (TEXT, {"cell": "elman", "activation": "relu", "recurrent_init": "identity"}),
    (TEXT, {"cell": "goru", "goru_capacity": 4, "hidden": 6}),
    (TEXT, {"pooling": "attention", "head": "mlp", "head_size": 7}),
    (TEXT, {"reverse": True, "bidirectional": False, "pooling": "last"}),
    (TEXT, {"reverse": True, "bidirectional": False, "cell": "goru"}),
    (TEXT, {"independent_directions": True, "pooling": "last", "skip": "residual", "layers": 3}),
    (TEXT, {"dropout": 0.5, "embedding_dropout": 0.2, "weight_drop": 0.5, "forget_bias": 0.0}),
    (TEXT, {"native": False, "cell": "goru"}),
    (TEXT, {"cell": "grid_lstm", "layers": 3}),
    (TEXT, {"cell": "grid_lstm", "grid_dimensions": 1}),
    (TEXT, {"cell": "grid_lstm", "encoder": "grid", "grid_tied": True, "bidirectional": False}),
    (TEXT, {"cell": "grid_lstm", "grid_priority": False, "layer_norm": True, "zoneout": 0.1}),
    ("entailment", {}),
    ("multilabel", {"cell": "gru"}),
    ("regression", {"embedding": 9, "hidden": 4}),
    ("images", {"permute": 3}),
    ("images", {"cell": "goru"}),
    (TAGS, {}),
    (TAGS, {"crf": False, "characters": 0}),
    (TAGS, {"cell": "goru", "layer_norm": True}),
    (TAGS, {"cell": "grid_lstm", "zoneout": 0.2}),
    (LM, {"ar_alpha": 1.0, "tar_beta": 1.0}),
    (LM, {"cell": "gru", "tie_embeddings": True}),
    (LM, {"cell": "goru", "skip": "residual", "layers": 3, "layer_norm": True}),
    (LM, {"zoneout": 0.2, "zoneout_memory": 0.1}),
    (LM, {"softmax": "adaptive", "hidden": 64, "embedding": 64}),
    (LM, {"independent_directions": True, "bidirectional": True}),
    (LM, {"reverse": True}),
    (PAIRS, {}),
    (PAIRS, {"shared_vocab": False, "cell": "gru", "attention": "dot", "decoder_layers": 3}),
    (PAIRS, {"cell": "goru", "bridge": False, "tie_embeddings": True, "attention_size": 3}),
    (PAIRS, {"layers": 3, "skip": "residual", "layer_norm": True, "bidirectional": False}),
    (PAIRS, {"cell": "elman", "zoneout": 0.1, "layers": 3, "skip": "highway"}),
    (PAIRS, {"independent_directions": True}),
]
REFUSED = {"convolutions"}
"""Keys of models whose task is refused: captioning."""
ONLY_FOR_TRAINING = {"init_from", "word_vectors"}
"""Keys that choose initial weights."""
SETS_OF_VALUES = {
    "cell": "cell", "encoder": "encoder", "pooling": "pooling", "attention": "attention",
    "head": "head",
}  # fmt: skip


@pytest.mark.parametrize("name, model", VARIANTS, ids=str)
def test_outputs_equal_the_models(name: str, model: dict[str, Any], tmp_path: Path) -> None:
    assert check_parts(written_parts(name, **model), tmp_path) < 1e-4


def all_keys() -> Iterable[type[Any]]:
    """Yield the settings classes of all models and built-in components."""
    yield ModelKeys
    for kind in SETS_OF_VALUES.values():
        for name in components.names(kind):
            yield components.load(kind, name).Settings


def test_each_key_and_each_choice_is_covered() -> None:
    keys = {key for section in all_keys() for key in section.model_fields}
    covered = {key for _, model in VARIANTS for key in model} - {"shared_vocab"}
    assert covered | REFUSED | ONLY_FOR_TRAINING == keys
    for section in all_keys():
        for key, field in section.model_fields.items():
            choices = [value for value in get_args(field.annotation) if isinstance(value, str)]
            used = [field.default, *(model.get(key) for _, model in VARIANTS)]
            assert all(choice in used for choice in choices), key
    for key, kind in SETS_OF_VALUES.items():
        chosen = {model.get(key) for _, model in VARIANTS} | {ModelKeys.model_fields[key].default}
        assert set(components.names(kind)) <= chosen


@pytest.mark.parametrize(
    "name, model",
    [
        (TEXT, {"head": "mlp", "pooling": "attention", "layer_norm": True, "skip": "highway"}),
        (TEXT, {"cell": "gru"}),
        (TEXT, {"cell": "goru"}),
        (TEXT, {"cell": "grid_lstm"}),
        (TAGS, {}),
        (LM, {"cell": "lstm"}),
        (PAIRS, {"shared_vocab": False}),
    ],
    ids=str,
)
def test_each_weight_is_in_the_graph(
    name: str, model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight that changes after the graph was written makes the outputs differ."""
    monkeypatch.setattr(check, "LENGTHS", ((4, 2),))
    monkeypatch.setattr(check, "TOLERANCE", (1e-5, 1e-6))  # some weights have a small effect
    task, module, config = small_model(name, **model)
    exported = task_export(task, module, config)
    check_parts(exported.parts, tmp_path)
    without_effect = {"attention.key.bias": "adds the same to all scores of a query"}
    for parameter_name, parameter in module.named_parameters():
        before = parameter.clone()
        parameter.add_(torch.randn_like(parameter))
        if not any(parameter_name.endswith(suffix) for suffix in without_effect):
            with pytest.raises(RunError, match="of onnxruntime differs from the model"):
                check_parts(exported.parts, tmp_path)
        parameter.copy_(before)
    check_parts(exported.parts, tmp_path)


def test_weights_of_a_bf16_module_are_written_in_float32(tmp_path: Path) -> None:
    task, module, config = small_model(TEXT)
    graph = task_export(task, module.bfloat16(), config).parts["model.onnx"].graph
    types = {tensor.data_type for tensor in graph.model("m").graph.initializer}
    assert types == {1, 7}  # FLOAT, INT64


class OwnLstm(Lstm):
    pass


class OwnStack(Stack):
    pass


class OwnPooling(Last):
    pass


class OwnHead(LinearHead):
    pass


class OwnDot(DotAttention):
    pass


class OwnTask(Classification):
    pass


def reference(kind: type[Any]) -> str:
    return f"{kind.__module__}:{kind.__name__}"


@pytest.mark.parametrize(
    "name, model, setting",
    [
        (TEXT, {"cell": reference(OwnLstm)}, f"model.cell={reference(OwnLstm)}"),
        (TEXT, {"encoder": reference(OwnStack)}, f"model.encoder={reference(OwnStack)}"),
        (TEXT, {"pooling": reference(OwnPooling)}, f"model.pooling={reference(OwnPooling)}"),
        (TEXT, {"head": reference(OwnHead)}, f"model.head={reference(OwnHead)}"),
        (PAIRS, {"attention": reference(OwnDot)}, f"model.attention={reference(OwnDot)}"),
        (reference(OwnTask), {}, f"task.name={reference(OwnTask)}"),
        ("images", {"cell": "grid_lstm", "grid_dimensions": 3}, "model.grid_dimensions=3"),
    ],
)  # fmt: skip
def test_what_has_no_graph_is_refused_in_one_line(
    name: str, model: dict[str, Any], setting: str
) -> None:
    pattern = rf"{re.escape(setting)}: cannot be exported to ONNX; [^;\n]+"
    with pytest.raises(RunError) as error:
        written_parts(name, **model)
    (line,) = error.value.lines
    assert re.fullmatch(pattern, line)


def test_captioning_is_refused() -> None:
    from pipeline.tasks.captioning import Captioning

    config: Any = SimpleNamespace(task=SimpleNamespace(name="captioning"))
    with pytest.raises(RunError, match=r"task\.name=captioning: cannot be exported to ONNX; "):
        tasks.task_export(Captioning.__new__(Captioning), torch.nn.Identity(), config)
