"""Runs that start from another run's layers: the weights that they load, and the errors."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline import config, tasks
from pipeline.config import Config
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.settings import TokenizerSettings
from pipeline.errors import RunError
from pipeline.optim.learning_rates import LearningRates
from pipeline.training import pretrained
from tests.helpers.corpora import SMALL, small_run_overrides
from tests.helpers.files import row_dicts
from tests.helpers.processes import call, weights

LAYERS = ["model.bidirectional=true", "model.independent_directions=true"]


@pytest.fixture(scope="module")
def language_model(
    corpora: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a short run on the reviews of the classification corpus."""
    folder = tmp_path_factory.mktemp("language_model")
    status, _, err = call(
        "train",
        *SMALL, *LAYERS, "task.name=language_modeling", "corpus.truncation_side=start",
        f"corpus.input={corpora('classification')}/reviews.csv", f"corpus.shards={folder}/shards",
        "corpus.overflow=split", "corpus.drop_duplicates=false", "stream.batch_rows=4",
        "model.native=false", "train.max_steps=3", "train.ema_decay=0", f"run.dir={folder}",
    )  # fmt: skip
    assert status == 0, err
    return folder


def saved_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights in a run's latest checkpoint."""
    return load_file(folder / "checkpoints" / "latest" / "model.safetensors")


def overrides(language_model: Path, corpus: Path, shards: Path) -> list[str]:
    """Return the overrides for a classifier that starts from the language model."""
    return [
        *small_run_overrides(corpus),
        *LAYERS, f"corpus.shards={shards}", f"model.init_from={language_model}",
    ]  # fmt: skip


def initialize(settings: Config) -> tuple[nn.Module, Manifest]:
    """Return the model with which a run starts, and its dataset."""
    task_class = tasks.get(settings.task.name)
    manifest = prepare(settings.corpus, task_class.fields(settings.corpus))
    torch.manual_seed(1)
    model = task_class(settings.task, settings.model, manifest).build()
    pretrained.load(model, settings, manifest)
    return model, manifest


def tokenizer_of(settings: config.Config) -> str:
    assert isinstance(settings.corpus, TokenizerSettings)
    return settings.corpus.tokenizer


def test_classifier_starts_from_a_language_models_layers_and_tokens(
    language_model: Path, corpus: Path, tmp_path: Path
) -> None:
    settings = config.load(None, overrides(language_model, corpus, tmp_path / "shards"))
    assert tokenizer_of(settings) == f"{language_model}/dataset/tokenizer.json"
    model, manifest = initialize(settings)
    tokenizer = manifest.store.read_file("tokenizer.json")
    assert tokenizer == Path(tokenizer_of(settings)).read_bytes()
    before = saved_weights(language_model)
    shared = {name: value for name, value in model.state_dict().items() if name in before}
    assert all(value.equal(before[name]) for name, value in shared.items() if "scores" not in name)
    assert {name.partition(".")[0] for name in shared} >= {"embedding", "stack"}
    assert model.state_dict()["scores.weight"].shape == (2, 32)


def test_language_model_starts_from_all_weights_of_another(language_model: Path) -> None:
    first = config.load(language_model / "config.yaml")
    settings = config.load(
        language_model / "config.yaml",
        [f"model.init_from={language_model}", f"corpus.tokenizer={tokenizer_of(first)!r}"],
    )
    model, _ = initialize(settings)
    before = saved_weights(language_model)
    assert model.state_dict().keys() == before.keys()
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_tagger_starts_from_a_word_level_language_model(
    corpora: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "words"
    status, _, err = call(
        "train",
        *small_run_overrides(corpora("language_modeling"),
        "language_modeling"), f"run.dir={folder}",
        "train.max_steps=2", "train.ema_decay=0",
    )  # fmt: skip
    assert status == 0, err
    settings = config.load(
        None,
        [
            *small_run_overrides(corpora("tagging"), "tagging"),
            "model.characters=0",
            "model.independent_directions=true",
            f"corpus.shards={tmp_path}/shards",
            f"model.init_from={folder}",
        ],
    )
    model, _ = initialize(settings)
    assert model.state_dict()["embedding.weight"].equal(saved_weights(folder)["embedding.weight"])
    model_settings = settings.model.model_copy(update={"characters": 6})
    with_characters = settings.model_copy(update={"model": model_settings})
    with pytest.raises(RunError, match=r"^model\.characters=6: .* set model\.characters=0$"):
        pretrained.check_run(with_characters)


def test_classifier_and_language_model_hold_out_the_same_texts(
    corpus: Path, tmp_path: Path
) -> None:
    held_out: list[set[str]] = []
    for task in ("classification", "language_modeling"):
        settings = config.load(
            None,
            [
                *small_run_overrides(corpus),
                "corpus.max_tokens=400",
                "corpus.stratify=false",
                f"corpus.shards={tmp_path}/{task}",
            ],
        ).corpus
        manifest = prepare(settings, tasks.fields(task, settings))
        rows = row_dicts(manifest, "validation")
        texts = {manifest.decode("tokenizer", row["tokens"]) for row in rows}
        held_out.append(texts)
    assert held_out[0] == held_out[1]
    assert 100 < len(held_out[0]) < 300


@pytest.mark.parametrize(
    "change, line",
    [
        ("model.hidden=9", r"model\.hidden=9: .* have 8, .* set model\.hidden=8"),
        ("model.layers=3", r"model\.layers=3: .* have 2"),
        (
            "model.independent_directions=false",
            r"model\.independent_directions=false: .* set model\.independent_directions=true",
        ),
        ("model.cell=gru", r"model\.cell=gru: .* set model\.cell=lstm"),
        ("model.init_from=nowhere", r"model\.init_from=nowhere: is not a run folder"),
    ],
)
def test_layers_of_another_shape_are_reported_before_preparation(
    change: str, line: str, language_model: Path, corpus: Path, tmp_path: Path
) -> None:
    settings = config.load(None, [*overrides(language_model, corpus, tmp_path / "shards"), change])
    with pytest.raises(RunError, match=f"^{line}"):
        pretrained.check_run(settings)


def copy_run(language_model: Path, folder: Path) -> Path:
    """Copy the files of a run that another run reads to start from it."""
    for name in ("config.yaml", "dataset", "checkpoints"):
        source = language_model / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return folder


def truncate_weights(run: Path) -> None:
    for path in run.glob("checkpoints/step-*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:2000])


def remove_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def change_task(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("name: language_modeling", "name: tagging"))


def add_unknown_key(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("model:\n", "model:\n  gone: 3\n"))


@pytest.mark.parametrize(
    "change, line",
    [
        (
            truncate_weights,
            r"model\.init_from=.*/model: .* is not a complete checkpoint: model\.safetensors",
        ),
        (remove_checkpoints, r"model\.init_from=.*.* has no checkpoint yet; train it first"),
        (
            change_task,
            r"model\.init_from=.*task\.name=tagging and model\.characters=32, so its layers",
        ),
        (add_unknown_key, r".*/config\.yaml: model\.gone=3: .*another version\?"),
    ],
)
def test_unusable_run_is_reported_before_preparation(
    change: Callable[[Path], None], line: str, language_model: Path, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    change(copy_run(language_model, tmp_path / "model"))
    settings = config.load(None, overrides(tmp_path / "model", corpus, tmp_path / "shards"))
    with pytest.raises(RunError, match=f"^{line}"):
        pretrained.check_run(settings)


def test_another_tokenizer_is_refused_before_preparation(
    language_model: Path, corpus: Path, tmp_path: Path
) -> None:
    matching = overrides(language_model, corpus, tmp_path / "shards")
    (tmp_path / "other.json").write_text("{}")
    for other in ("''", f"{tmp_path}/other.json"):
        settings = config.load(None, [*matching, f"corpus.tokenizer={other}"])
        with pytest.raises(
            RunError, match=r"has another tokenizer, .*; leave the key out, and that run's"
        ):
            pretrained.check_tokenizer(settings)
    pretrained.check_tokenizer(config.load(None, matching))


def test_layers_that_stay_frozen_are_reported() -> None:
    settings = config.load(None, ["train.epochs=1"]).train
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "depth": depth} for depth in range(4)]
    for unfreeze, part in ((0.0, ""), (0.3, ""), (0.4, "1 of 4 parts"), (1.0, "3 of 4 parts")):
        rates = LearningRates(settings.model_copy(update={"unfreeze": unfreeze}))
        line = rates.unfreeze_warning(groups, settings.epochs)
        assert part in line
        assert bool(part) == bool(line)


def test_dataset_with_another_tokenizer_is_refused(
    language_model: Path, corpus: Path, tmp_path: Path
) -> None:
    other = ["corpus.tokenizer=''", "corpus.vocab_size=390"]
    settings = config.load(None, [*overrides(language_model, corpus, tmp_path / "shards"), *other])
    with pytest.raises(RunError, match=r"with another tokenizer than model\.init_from="):
        initialize(settings)


@pytest.mark.slow
def test_layers_unfreeze_one_by_one_and_a_resumed_run_does_the_same(
    language_model: Path, corpus: Path, tmp_path: Path
) -> None:
    """The embedding, the lowest of four parts, is trained in the last quarter only."""
    arguments = [
        *overrides(language_model, corpus, tmp_path / "shards"), "train.epochs=1",
        "train.unfreeze=0.25", "train.layer_decay=0.5", "train.ema_decay=0", "train.weight_decay=0",
        "train.checkpoint_every=1000", "train.evaluate_every=1000",
    ]  # fmt: skip
    status, _, err = call("train", *arguments, f"run.dir={tmp_path}/uninterrupted")
    assert status == 0, err
    for steps in (8, 1000):
        status, _, err = call(
            "train", *arguments, f"run.dir={tmp_path}/resumed", f"train.max_steps={steps}"
        )
        assert status == 0, err
        if steps == 8:
            early = load_file(tmp_path / "resumed/checkpoints/latest/model.safetensors")
    assert weights(tmp_path / "uninterrupted") == weights(tmp_path / "resumed")
    before = saved_weights(language_model)
    assert early["embedding.weight"].equal(before["embedding.weight"])
    late = load_file(tmp_path / "uninterrupted/checkpoints/latest/model.safetensors")
    assert not late["embedding.weight"].equal(before["embedding.weight"])
