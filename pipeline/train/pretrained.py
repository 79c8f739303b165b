"""What a run begins with beside random weights: word vectors, or the layers of another run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.config import Config
from pipeline.corpus.dataset.manifest import Manifest, read_manifest
from pipeline.errors import InputError, RunError
from pipeline.models.settings import KEY_TASKS
from pipeline.run import checkpoint
from pipeline.run.folder import RunFolder

Say = Callable[[str], None]

SHARED = ("embedding.", "stack.")
"""The names of weights that models of several tasks have begin with these."""
SHAPING = (
    "embedding", "cell", "layers", "hidden", "bidirectional", "independent_directions", "reverse", "activation",
    "goru_capacity", "layer_norm", "skip", "grid_dimensions", "grid_tied", "grid_priority",
)  # fmt: skip
"""Keys of the model that say what these weights are and mean."""


def weights(model: nn.Module, config: Config, manifest: Manifest, say: Say) -> None:
    """Put in place of random weights what `model.word_vectors` or `model.init_from` names.

    Raises InputError or RunError if it does not fit.
    """
    if config.model.word_vectors:
        _from_vectors(model, config, manifest, say)
    if config.model.init_from:
        _from_run(model, config, manifest, say)


def _from_run(model: nn.Module, config: Config, manifest: Manifest, say: Say) -> None:
    """Take the embedding and the recurrent layers of a run's best checkpoint; all of it, if it is
    of a language model and so is this one."""
    before, path = check(config)
    folder = RunFolder(Path(config.model.init_from))
    if mistakes := list(_other_tokens(config, folder, manifest)):
        raise RunError(mistakes)
    found = load_file(path / "model.safetensors")
    whole = config.task.name == before.task.name == "language_modeling"
    names = [name for name in model.state_dict() if whole or name.startswith(SHARED)]
    model.load_state_dict({**model.state_dict(), **{name: found[name] for name in names}})
    say(f"{len(names)} of {len(model.state_dict())} tensors begin with those of {path}")


def check(config: Config) -> tuple[Config, Path]:
    """The config and the best checkpoint of the run that `model.init_from` names. Raises RunError
    if there is none, that is not whole, or its layers are not those of this run's model."""
    folder = RunFolder(Path(config.model.init_from))
    if not folder.config.exists():
        raise RunError(
            f"model.init_from={config.model.init_from}: not the folder of a run, it has no "
            f"config.yaml; train that first, or name another"
        )
    before = folder.read_config()
    if mistakes := list(_misfits(config, before)):
        raise RunError(mistakes)
    return before, _checkpoint(config, folder)


def check_tokenizer(config: Config) -> None:
    """Raises RunError if the corpus, which is to be prepared, would have other tokens."""
    theirs = RunFolder(Path(config.model.init_from)).dataset / "tokenizer.json"
    own = Path(config.corpus.tokenizer)
    if not config.corpus.tokenizer or (
        own.is_file() and theirs.is_file() and own.read_bytes() != theirs.read_bytes()
    ):
        raise RunError(
            f"corpus.tokenizer={config.corpus.tokenizer!r}: model.init_from="
            f"{config.model.init_from} has other tokens, whose embedding would mean other words "
            f"here; leave it out, and that run's is taken"
        )


def _checkpoint(config: Config, folder: RunFolder) -> Path:
    """The best of the other run."""
    where = f"model.init_from={config.model.init_from}"
    try:
        path = folder.best()
    except RunError as error:
        raise RunError(f"{where}: {error}") from None
    if reason := checkpoint.damage(path):
        raise RunError(f"{where}: {path} is not a whole checkpoint: {reason}; name another run")
    return path


def _misfits(config: Config, before: Config) -> Iterator[str]:
    """Settings by which the other run's weights do not fit this one's model."""
    theirs, where = before.model, f"model.init_from={config.model.init_from}"
    spelt = before.task.name == "tagging" and theirs.characters
    if before.task.name not in KEY_TASKS["init_from"] or spelt:
        what = f"task.name={before.task.name}"
        if spelt:
            what += f" and model.characters={theirs.characters}"
        yield (
            f"{where}: is of {what}, whose layers read other than tokens; name a run of "
            f"{', '.join(KEY_TASKS['init_from'])}, of tagging with model.characters=0"
        )
        return
    for key in SHAPING:
        own, other = getattr(config.model, key), getattr(theirs, key)
        if own != other:
            yield (
                f"model.{key}={_yaml(own)}: the layers of {where} have {_yaml(other)}, and this "
                f"run begins with them; set model.{key}={_yaml(other)}"
            )
    if config.task.name == "tagging" and config.model.characters:
        yield (
            f"model.characters={config.model.characters}: the layers of {where} read words alone; "
            f"set model.characters=0"
        )
    if config.task.name == before.task.name == "language_modeling":
        for key in ("tie_embeddings", "softmax"):
            if getattr(config.model, key) != getattr(theirs, key):
                yield (
                    f"model.{key}={_yaml(getattr(config.model, key))}: {where}, all of which this "
                    f"language model begins with, has {_yaml(getattr(theirs, key))}; set that"
                )


def _other_tokens(config: Config, folder: RunFolder, manifest: Manifest) -> Iterator[str]:
    """Whether the other run's embedding is of other tokens."""
    theirs = read_manifest(folder.dataset).tokenizers
    for name, facts in manifest.tokenizers.items():
        if name not in theirs or theirs[name].sha256 != facts.sha256:
            yield (
                f"{manifest.location}: its tokens are not those of model.init_from="
                f"{config.model.init_from}, whose embedding would mean other words here; remove it "
                f"or set another corpus.shards, and leave corpus.tokenizer out or set it to "
                f"{folder.dataset / name}.json, by which it is prepared anew"
            )


def _yaml(value: object) -> str:
    """A value as it is written in a config."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from_vectors(model: nn.Module, config: Config, manifest: Manifest, say: Say) -> None:
    """Put the word vectors of `model.word_vectors` in place of random ones.

    They are scaled, all by one factor, until their figures are as large (root mean square) as the
    random ones, which the other words keep: Turian et al. 2010 found that this matters for taggers,
    and 0.1, which it is here, to be right for any vectors. As they are, GloVe's are some four times
    as large, so that words without one would hardly count beside them.
    """
    try:
        from pipeline.corpus.tokenization.word_vectors import read_vectors
    except ModuleNotFoundError as error:
        raise InputError(
            f"model.word_vectors={config.model.word_vectors}: finding their words needs {error.name}; "
            "pip install headrace[prepare]"
        ) from None
    vocabulary = manifest.store.read_file("tokenizer.json")
    found = read_vectors(Path(config.model.word_vectors), config.model.embedding, vocabulary)
    embedding = model.get_submodule("embedding")
    assert isinstance(embedding, nn.Embedding)
    with torch.no_grad():
        weight = embedding.weight
        values = torch.from_numpy(found.values).to(weight)
        ours, theirs = (x.square().mean().sqrt() for x in (weight, values))
        scaled = values * (ours / theirs) if theirs else values
        weight[torch.from_numpy(found.ids).to(weight.device)] = scaled
    say(
        f"{len(found.ids):,} of {found.words:,} words begin with a vector of {config.model.word_vectors}"
    )
