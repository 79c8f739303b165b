"""Initial weights other than random ones: word vectors, or the layers of another run."""

import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from pipeline import components
from pipeline.config import Config, load_run_config
from pipeline.corpus.dataset.manifest import Manifest, read_manifest
from pipeline.errors import InputError, RunError
from pipeline.models.settings import ModelSettings, PretrainedSettings
from pipeline.models.tagger import Tagger
from pipeline.run import checkpoint
from pipeline.run.folder import RunFolder

logger = logging.getLogger(__name__)

SHARED_PREFIXES = ("embedding.", "stack.")
"""Prefixes of the parameter names that models of several tasks have in common."""
SHAPE_KEYS = (
    "embedding", "cell", "encoder", "layers", "hidden", "bidirectional", "independent_directions",
    "reverse", "activation", "goru_capacity", "layer_norm", "skip", "grid_dimensions", "grid_tied",
    "grid_priority",
)  # fmt: skip
"""Keys of the model that determine the shape and the meaning of these parameters."""


def load(model: nn.Module, config: Config, manifest: Manifest) -> None:
    """Replace random weights by those that `model.word_vectors` or `model.init_from` names.

    Raises InputError or RunError if they do not fit.
    """
    if getattr(config.model, "word_vectors", ""):
        _load_word_vectors(model, config, manifest)
    if isinstance(config.model, PretrainedSettings) and config.model.init_from:
        _load_run(model, config, manifest)


def _name(config: Config) -> str:
    """Return `model.init_from`."""
    assert isinstance(config.model, PretrainedSettings)
    return config.model.init_from


def check_run(config: Config) -> tuple[Config, Path]:
    """Return the config and the best checkpoint of the run that `model.init_from` names.

    Raises RunError if there is no such run, its checkpoint is damaged, or its layers do not fit.
    """
    folder = RunFolder(Path(_name(config)))
    if not folder.config.exists():
        raise RunError(
            f"model.init_from={_name(config)}: is not a run folder, it has no "
            f"config.yaml; train that run first, or name another"
        )
    with components.temporary_copies():
        previous = load_run_config(folder.config)
    if mistakes := list(_mismatches(config, previous)):
        raise RunError(mistakes)
    return previous, _best_checkpoint(config, folder)


def check_tokenizer(config: Config) -> None:
    """Raise RunError if the corpus, which is about to be prepared, would get other tokens."""
    theirs = RunFolder(Path(_name(config))).dataset / "tokenizer.json"
    tokenizer = getattr(config.corpus, "tokenizer", "")
    ours = Path(tokenizer)
    if not tokenizer or (
        ours.is_file() and theirs.is_file() and ours.read_bytes() != theirs.read_bytes()
    ):
        raise RunError(
            f"corpus.tokenizer={tokenizer!r}: model.init_from="
            f"{_name(config)} has another tokenizer, so its embedding would mean other "
            f"words; leave the key out, and that run's tokenizer is used"
        )


def _load_run(model: nn.Module, config: Config, manifest: Manifest) -> None:
    """Load the embedding and the recurrent layers of a run's best checkpoint.

    Between two language models, load all weights.
    """
    previous, path = check_run(config)
    folder = RunFolder(Path(_name(config)))
    if mistakes := list(_tokenizer_mismatches(config, folder, manifest)):
        raise RunError(mistakes)
    weights = checkpoint.read_weights(path)
    load_all = config.task.name == previous.task.name == "language_modeling"
    names = [name for name in model.state_dict() if load_all or name.startswith(SHARED_PREFIXES)]
    model.load_state_dict({**model.state_dict(), **{name: weights[name] for name in names}})
    logger.info(
        "%d of %d tensors are initialized from %s", len(names), len(model.state_dict()), path
    )


def _best_checkpoint(config: Config, folder: RunFolder) -> Path:
    key = f"model.init_from={_name(config)}"
    try:
        path = folder.best_checkpoint()
    except RunError as error:
        raise RunError(f"{key}: {error}") from None
    if reason := checkpoint.damage(path):
        raise RunError(f"{key}: {path} is not a complete checkpoint: {reason}; name another run")
    return path


def _mismatches(config: Config, previous: Config) -> Iterator[str]:
    """Yield a line for each setting by which the other run's weights do not fit this model."""
    theirs, key = previous.model, f"model.init_from={_name(config)}"
    reads_characters = getattr(theirs, "characters", 0)
    if not isinstance(theirs, PretrainedSettings) or reads_characters:
        task = f"task.name={previous.task.name}"
        if reads_characters:
            task += f" and model.characters={reads_characters}"
        yield (
            f"{key}: was trained with {task}, so its layers do not read token embeddings alone; "
            f"name a run of language_modeling or classification, or of tagging with "
            f"model.characters=0"
        )
        return
    for name in dict.fromkeys([*SHAPE_KEYS, *_own_keys(config.model)]):
        ours, other = getattr(config.model, name, None), getattr(theirs, name, None)
        if ours != other:
            yield (
                f"model.{name}={_yaml(ours)}: the layers of {key} have {_yaml(other)}, and this "
                f"run starts from them; set model.{name}={_yaml(other)}"
            )
    if characters := getattr(config.model, "characters", 0):
        yield (
            f"model.characters={characters}: the layers of {key} read token "
            f"embeddings alone; set model.characters=0"
        )
    if config.task.name == previous.task.name == "language_modeling":
        for name in ("tie_embeddings", "softmax"):
            ours, other = getattr(config.model, name), getattr(theirs, name)
            if ours != other:
                yield (
                    f"model.{name}={_yaml(ours)}: {key}, whose weights this language model takes "
                    f"all, has {_yaml(other)}; set that"
                )


def _own_keys(model: ModelSettings) -> set[str]:
    """Return the keys of a cell and an encoder that are not built in: they may shape weights."""
    found: set[str] = set()
    for kind in ("cell", "encoder"):
        component = components.load(kind, getattr(model, kind))
        if not component.__module__.startswith("pipeline."):
            found |= component.Settings.model_fields.keys() - ModelSettings.model_fields.keys()
    return found


def _tokenizer_mismatches(config: Config, folder: RunFolder, manifest: Manifest) -> Iterator[str]:
    """Yield a line for each tokenizer of the dataset that the other run does not share."""
    theirs = read_manifest(folder.dataset).tokenizers
    for name, tokenizer in manifest.tokenizers.items():
        if name not in theirs or theirs[name].sha256 != tokenizer.sha256:
            yield (
                f"{manifest.location}: was tokenized with another tokenizer than model.init_from="
                f"{_name(config)}, whose embedding would mean other words; delete it or "
                f"set corpus.shards to another folder, and leave corpus.tokenizer out or set it to "
                f"{folder.dataset / name}.json, so that it is prepared with that tokenizer"
            )


def _yaml(value: object) -> str:
    """Return a value as a config writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _word_vectors(config: Config) -> str:
    assert isinstance(config.model, Tagger.Settings)
    return config.model.word_vectors


def _load_word_vectors(model: nn.Module, config: Config, manifest: Manifest) -> None:
    """Replace random embeddings by the word vectors of `model.word_vectors`.

    The vectors are scaled by one factor to the root mean square of the random embeddings, which
    words without a vector keep. Turian et al. 2010 found that this scale matters for taggers and
    that 0.1, which it is here, suits all vectors. Unscaled GloVe vectors are about four times as
    large, so words without a vector would hardly count beside them.
    """
    try:
        from pipeline.corpus.tokenization.word_vectors import read_vectors
    except ModuleNotFoundError as error:
        raise InputError(
            f"model.word_vectors={_word_vectors(config)}: finding their words needs "
            f"{error.name}; pip install headrace[prepare]"
        ) from None
    vocabulary = manifest.store.read_file("tokenizer.json")
    vectors = read_vectors(Path(_word_vectors(config)), config.model.embedding, vocabulary)
    embedding = model.get_submodule("embedding")
    assert isinstance(embedding, nn.Embedding)
    with torch.no_grad():
        weight = embedding.weight
        values = torch.from_numpy(vectors.values).to(weight)
        ours, theirs = (x.square().mean().sqrt() for x in (weight, values))
        scaled = values * (ours / theirs) if theirs else values
        weight[torch.from_numpy(vectors.ids).to(weight.device)] = scaled
    logger.info(
        "%s of %s words are initialized with a vector of %s",
        f"{len(vectors.ids):,}", f"{vectors.words:,}", _word_vectors(config),
    )  # fmt: skip
