"""Embeddings, probabilities and generation of texts in Python."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import pipeline
from pipeline import Model
from pipeline.errors import ConfigError, InputError
from pipeline.models.language_model import LanguageModel

Runs = Callable[[str], Path]
TEXTS = {
    "classification": ["the film was superb", "music", "a dull plot, and long"],
    "multilabel": ["a fine film", "rain"],
    "regression": ["fine lovely film", "dull"],
    "entailment": ["the red film\tred", "the plot\tblue"],
    "tagging": ["Peter Miller saw it", "the"],
    "language_modeling": ["the film", "a plot and more"],
    "translation": ["the film", "a plot"],
}


@pytest.mark.parametrize("task", TEXTS)
def test_an_embedding_depends_on_its_input_only(runs: Runs, task: str) -> None:
    model, texts = pipeline.load(runs(task)), TEXTS[task]
    together = model.embed(texts)
    assert together.dtype == np.dtype(np.float32)
    assert len(together) == len(texts)
    assert np.isfinite(together).all()
    alone = np.concatenate([model.embed([text]) for text in texts])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-4


def test_an_embedding_is_what_the_output_layer_reads(runs: Runs) -> None:
    model = pipeline.load(runs("classification"))
    texts = TEXTS["classification"]
    with torch.no_grad():
        logits = model.module.outputs(torch.from_numpy(model.embed(texts)))  # type: ignore[operator]
    probabilities = [list(p["scores"].values()) for p in model.predict(texts)]
    np.testing.assert_allclose(logits.softmax(-1).numpy(), probabilities, atol=2e-6)


def test_the_score_of_a_text_is_the_sum_over_its_tokens(runs: Runs) -> None:
    model = pipeline.load(runs("language_modeling"))
    module = model.module
    assert isinstance(module, LanguageModel)
    texts = ["the film was fine", "a", "the plot"]
    scores = model.score(texts)
    for text, found in zip(texts, scores, strict=True):
        ids = token_ids(model, text)
        assert found.tokens == len(ids) + 1
        expected = 0.0
        sequence = [END, *ids]
        for position, target in enumerate([*ids, END]):
            tokens = torch.tensor([sequence[: position + 1]])
            lengths, keys = torch.tensor([tokens.shape[1]]), torch.tensor([0])
            with torch.no_grad():
                states, _ = module.stacks[0](module.embedding(tokens.t()), lengths, keys)
                log_probs = module.log_probs(states[-1])
            expected += log_probs[0, target].item()
        assert found.log_probability == pytest.approx(expected, rel=1e-3)


END = 3


def token_ids(model: Model, text: str) -> list[int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model.trained.files.dataset / "tokenizer.json"))
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def test_the_score_of_a_translation(runs: Runs, tmp_path: Path) -> None:
    model = pipeline.load(runs("translation"))
    columns = [model.config.corpus.text, model.config.corpus.target]  # type: ignore[attr-defined]
    rows = [dict(zip(columns, pair, strict=True)) for pair in (("the film", "x y"), ("a", "z"))]
    scores = model.score(rows)
    assert all(math.isfinite(s.log_probability) and s.log_probability < 0 for s in scores)
    assert [model.score([row])[0].tokens for row in rows] == [s.tokens for s in scores]
    with pytest.raises(InputError, match="a text has no field target; give a row with all columns"):
        model.score(["the film"])


def test_generated_texts_are_those_of_predictions(runs: Runs) -> None:
    for task, name in (("language_modeling", "continuation"), ("translation", "translation")):
        model = pipeline.load(runs(task))
        texts = TEXTS[task]
        expected = [prediction[name] for prediction in model.predict(texts)]
        assert [found[0].text for found in model.generate(texts)] == expected


def test_samples_depend_on_input_and_seed_only(runs: Runs) -> None:
    for task in ("language_modeling", "translation"):
        model, texts = pipeline.load(runs(task)), TEXTS[task]
        options = {"n": 3, "temperature": 1.0, "seed": 5}
        samples = model.generate(texts, **options)  # type: ignore[arg-type]
        assert model.generate(texts[1:], **options) == samples[1:]  # type: ignore[arg-type]
        assert len({found.text for found in samples[0]}) > 1
        assert all(found.score <= 0 for row in samples for found in row)
        assert samples != model.generate(texts, n=3, temperature=1.0, seed=6)


def test_the_score_of_a_continuation_is_its_share_of_the_whole_text(runs: Runs) -> None:
    model = pipeline.load(runs("language_modeling"))
    (found,) = model.generate(["the film"], temperature=0, max_new_tokens=1)[0]
    end = model.score(["the film"])[0].log_probability
    module = model.module
    assert isinstance(module, LanguageModel)
    ids = torch.tensor([[END, *token_ids(model, "the film")]])
    lengths = torch.tensor([ids.shape[1]])
    with torch.no_grad():
        states, _ = module.stacks[0](module.embedding(ids.t()), lengths, torch.tensor([0]))
        log_probs = module.log_probs(states[:, 0])
    targets = torch.tensor([*ids[0, 1:].tolist(), END])
    assert end == pytest.approx(log_probs.gather(1, targets[:, None]).sum().item(), rel=1e-3)
    assert found.score <= 0


def test_mistakes(runs: Runs) -> None:
    model = pipeline.load(runs("classification"))
    for method in (model.score, model.generate):
        with pytest.raises(
            ConfigError, match=r"task\.name=classification: does not support (score|gen)"
        ):
            method(["music"])
    with pytest.raises(InputError) as raised:
        model.embed(["", "music", " "])
    assert raised.value.lines == [
        "inputs, line 1: the text is empty; leave it out",
        "inputs, line 3: the text is empty; leave it out",
    ]
    language = pipeline.load(runs("language_modeling"))
    with pytest.raises(ConfigError, match="beam_size=2: a language model samples"):
        language.generate(["a"], beam_size=2)
    with pytest.raises(ConfigError, match="n=2: at temperature 0 all texts are equal"):
        language.generate(["a"], n=2, temperature=0)
    translation = pipeline.load(runs("translation"))
    for options, error in (
        ({"n": 0}, "n=0: must be at least 1"),
        ({"max_new_tokens": 3}, "max_new_tokens=3: the maximum length"),
        ({"seed": 1}, "seed=1: beam search has no randomness"),
        ({"n": 3, "beam_size": 2}, "n=3: is more than"),
        ({"temperature": 1.0, "beam_size": 2}, "beam_size=2: sampling has no beam"),
    ):
        with pytest.raises(ConfigError, match=error):
            translation.generate(["a"], **options)
