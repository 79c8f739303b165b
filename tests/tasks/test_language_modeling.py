"""Language modeling: metrics, recurrent states, generation, and end-to-end
training, evaluation and prediction."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.corpus.field_spec import DOCUMENT
from pipeline.corpus.tokenization.special_tokens import END, UNK
from pipeline.inference.evaluator import evaluate_files
from pipeline.inference.model import load
from pipeline.models.dropout import TypeDropout, assign_dropout_sites
from pipeline.models.language_model import LanguageModel
from pipeline.stream.batch import Batch
from pipeline.stream.bptt import BpttStream, InMemoryTokens
from pipeline.stream.plan import Position
from pipeline.stream.settings import StreamSettings
from pipeline.tasks.language_modeling import LanguageModeling
from tests.helpers.corpora import small_run_overrides
from tests.helpers.modules import settings_of_cell
from tests.helpers.processes import call
from tests.helpers.settings import task_settings
from tests.helpers.task_data import Data

V = 40
HIDDEN = 6
TOKENS = 61
TARGETS = TOKENS - 1
"""The first token of a text is predicted by none."""
BYTES_PER_TOKEN = 3
"""Set by tests.helpers.task_data.Data."""
MAX_NEW_TOKENS = 8
"""Generated tokens that a test compares."""


def make_settings(**changes: object) -> Any:
    values: dict[str, Any] = {"embedding": 6, "hidden": HIDDEN, "layers": 2, "bidirectional": False}
    return settings_of_cell(**({"cell": "lstm"} | values | changes))


def make_task(**changes: object) -> LanguageModeling:
    return LanguageModeling(task_settings(), make_settings(**changes), Data({"tokenizer": V}))


def build(task: LanguageModeling) -> LanguageModel:
    model = task.build()
    assert isinstance(model, LanguageModel)
    return model


def make_stream(
    lanes: int,
    bptt_length: int,
    tokens: int = TOKENS,
    reversed_directions: tuple[bool, ...] = (False,),
) -> BpttStream:
    """`reversed_directions` has an item per direction: whether it reads the text backward."""
    text = np.random.default_rng(0).integers(4, V, tokens)
    settings = StreamSettings(batch_rows=lanes, bptt_length=bptt_length)
    return BpttStream(InMemoryTokens("x", text), settings, 0, reverse=reversed_directions)


def losses(task: LanguageModeling, model: LanguageModel, stream: BpttStream) -> Tensor:
    """Return the loss of each token [B, tokens of a lane]."""
    model.eval()
    with torch.no_grad():
        segments = [task.outputs(model, u.batches[0])[..., 0] for u in stream.epoch(Position())]
    return torch.cat(segments, 1)


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru", "goru"])
@pytest.mark.parametrize("softmax", ["full", "adaptive"])
def test_losses_do_not_depend_on_the_bptt_length(cell: str, softmax: str) -> None:
    torch.manual_seed(0)
    task = make_task(cell=cell, softmax=softmax, goru_capacity=2 if cell == "goru" else 0)
    model = build(task)
    whole, segmented = (losses(task, model, make_stream(3, length)) for length in (100, 7))
    assert torch.allclose(whole, segmented, atol=1e-5)
    assert whole.sum() > 0


def test_independent_directions_match_models_of_one_direction() -> None:
    """Each direction has the losses of a one-direction model with that direction's weights.

    The backward direction's reference model reads the reversed text from left to right.
    """
    torch.manual_seed(0)
    task = make_task(bidirectional=True, independent_directions=True)
    both_model = build(task)
    both_losses = losses(
        task, both_model, make_stream(1, 7, reversed_directions=(False, True))
    )  # [2, T]
    streams = (make_stream(1, 7), make_stream(1, 7, reversed_directions=(True,)))
    for direction, stream in enumerate(streams):
        single_task = make_task()
        single_model = build(single_task)
        single_model.load_state_dict(
            {name.replace(f"stack.stacks.{direction}.", "stack."): value
             for name, value in both_model.state_dict().items()
             if f"stacks.{1 - direction}" not in name}
        )  # fmt: skip
        expected = both_losses[direction : direction + 1]
        assert torch.allclose(losses(single_task, single_model, stream), expected, atol=1e-6)
    stream = make_stream(1, 100, reversed_directions=(False, True))
    (update, *_) = stream.epoch(Position())
    whole = losses(task, both_model, stream)
    metrics = task.summarize(task.evaluate(whole[..., None], update.batches[0])[0]).metrics
    for name, row in zip(("forward", "backward"), whole, strict=True):
        perplexity = math.exp(row.sum() / TARGETS)
        assert metrics[f"perplexity_{name}"] == pytest.approx(perplexity, rel=1e-5)


def test_type_dropout_drops_a_token_at_all_its_positions_in_a_row() -> None:
    drop = TypeDropout(0.5).train()
    assign_dropout_sites(drop)
    tokens = torch.arange(40).repeat(2)[:, None].repeat(1, 3)  # [80, 3]: each token twice per row
    keys = torch.tensor([1, 2, 1])  # rows 0 and 2 share a dropout key, hence a mask
    kept = drop(torch.ones(80, 3, 2), tokens, keys)
    assert kept[:40].equal(kept[40:])
    assert kept[:, 0].equal(kept[:, 2])
    assert not kept[:, 0].equal(kept[:, 1])
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert drop.eval()(torch.ones(80, 3, 2), tokens, torch.ones(3)).equal(torch.ones(80, 3, 2))


def test_the_loss_is_the_negative_log_likelihood_of_each_next_token() -> None:
    torch.manual_seed(0)
    task = make_task(tie_embeddings=True)
    model = build(task)
    (update, *_) = make_stream(2, 100).epoch(Position())
    (batch,) = update.batches
    token_losses = losses(task, model, make_stream(2, 100))
    states, _ = model.states(batch.columns["tokens"], batch.lengths, batch.keys)
    probabilities = model.log_probs(states).exp()  # [T, B, V]
    assert torch.allclose(probabilities.sum(-1), torch.ones_like(probabilities[..., 0]), atol=1e-5)
    for row in range(2):
        for t, target in enumerate(batch.columns["targets"][row].tolist()):
            token_nll = -math.log(probabilities[t, row, target]) if target else 0.0
            assert token_losses[row, t].item() == pytest.approx(token_nll, abs=1e-5)
    counts, mistakes = task.evaluate(token_losses[..., None], batch)
    nll, count = token_losses.sum().item(), TARGETS
    expected = {"loss": nll / count, "perplexity": math.exp(nll / count),
                "bits_per_byte": nll / count / math.log(2) / BYTES_PER_TOKEN,
                "examples": 2}  # fmt: skip
    assert task.summarize(counts).metrics == pytest.approx(expected)
    assert not mistakes
    model.train()
    assert task.metrics(task.loss(model, batch).tolist())["loss"] == pytest.approx(nll / count)


def test_generation_does_not_depend_on_the_other_rows_of_the_batch() -> None:
    torch.manual_seed(0)
    task = make_task()
    model = task.build().eval()
    texts = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0], [5, 6, 7, 9]])
    lengths = torch.tensor([4, 2, 4])

    def generate(*rows: int) -> list[list[float]]:
        """Return the tokens generated after each row.

        A batch without targets is a batch of prompts, for which `outputs` returns tokens [B, G, 1].
        """
        index, row_ids = torch.tensor(rows), torch.arange(len(rows))
        columns = {"tokens": texts[index, : int(lengths[index].max())], DOCUMENT: row_ids}
        batch = Batch(columns, lengths[index], weights=torch.ones(len(rows)), keys=row_ids)
        with torch.no_grad():
            return [row[:MAX_NEW_TOKENS, 0].tolist() for row in task.outputs(model, batch)]

    generated = generate(0, 1, 2)
    assert generate(2, 0) == [generated[2], generated[0]]
    assert generate(1) == [generated[1]]
    assert generated[0] != generated[2]


def test_bits_per_byte_are_omitted_if_a_token_is_unknown() -> None:
    task = make_task()
    (update, *_) = make_stream(2, 100).epoch(Position())
    (batch,) = update.batches
    batch.columns["targets"][0, 3] = UNK
    counts, _ = task.evaluate(torch.ones(*batch.columns["targets"].shape, 1), batch)
    assert task.summarize(counts).metrics.keys() == {"loss", "perplexity", "examples"}


def test_stream_holds_the_recurrent_state_after_an_update() -> None:
    """Evaluation on another stream does not change that state."""
    torch.manual_seed(0)
    task, stream = make_task(), make_stream(2, 7)
    model = build(task)
    batch = next(stream.epoch(Position())).batches[0]
    task.loss(model.train(), batch)
    state = stream.state_dict()["tensors"]["recurrent"]
    assert state.shape == (2, 2 * 2, HIDDEN)  # lanes, h and c of two layers, hidden units
    losses(task, model, make_stream(2, 7))
    assert stream.state_dict()["tensors"]["recurrent"].equal(state)
    resumed = make_stream(2, 7)
    resumed.load_state_dict(stream.state_dict())
    (again,) = next(resumed.epoch(Position())).batches
    assert again.recurrent_state is not None
    assert torch.stack(again.recurrent_state.tensors, 1).equal(state)


@pytest.mark.parametrize("state_reset_prob", [0.0, 0.5, 1.0])
def test_states_are_reset_in_training_but_not_in_evaluation(state_reset_prob: float) -> None:
    torch.manual_seed(0)
    task = LanguageModeling(
        task_settings(state_reset_prob=state_reset_prob), make_settings(), Data({"tokenizer": V})
    )
    model = task.build().train()
    is_zero = []
    for update in make_stream(8, 3, 900).epoch(Position()):
        (batch,) = update.batches
        states = task._initial_states(model, batch)
        is_zero += [not any(state.h[0, row].any() for state in states) for row in range(8)]
        task.loss(model, batch)
    share = (sum(is_zero) - 8) / (len(is_zero) - 8)  # without the 8 rows of the first update
    assert share == pytest.approx(state_reset_prob, abs=0.1)
    assert batch.recurrent_state is not None
    batch.recurrent_state.tensors = [torch.ones(8, HIDDEN)] * 4
    assert all(state.h.all() for state in task._initial_states(model.eval(), batch))


@pytest.mark.parametrize(
    "directions",
    [{}, {"reverse": True}, {"bidirectional": True, "independent_directions": True}],
    ids=str,
)
def test_samples_continue_a_few_rows_and_an_empty_prompt(directions: dict[str, bool]) -> None:
    """Samples of a backward model are in text order: generated beginning, then prompt."""
    torch.manual_seed(0)
    task, backward = make_task(**directions), "reverse" in directions
    # Lanes of 30 and 31 tokens, of which the first segment has 25.
    stream = make_stream(2, 25, reversed_directions=task.is_reversed)
    (update, *_) = stream.epoch(Position())
    (batch,), model = update.batches, task.build().eval()
    # Only the two rows of the first direction, which generates text, can be displayed.
    other_rows = 2 * (len(task.is_reversed) - 1)
    assert task.displayable(batch).tolist() == [True] * 2 + [False] * other_rows
    lengths = batch.lengths[:2]
    columns = {"tokens": batch.columns["tokens"][:2]}
    rows = Batch(columns, lengths, weights=torch.ones(2), keys=torch.arange(2))
    samples = task.samples(model, rows)
    assert batch.recurrent_state is not None
    assert not batch.recurrent_state.tensors
    text = np.random.default_rng(0).integers(4, V, TOKENS).tolist()
    # A prompt is the first 20 tokens that the model reads of a lane, in text order.
    prompts = [text[10:30], text[41:61]] if backward else [text[:20], text[30:50]]
    given = [" ".join(map(str, prompt)) for prompt in ([END], *prompts)]
    assert [sample.texts["given"] for sample in samples] == given
    name = "beginning" if backward else "continuation"
    assert samples[1].texts[name]
    assert list(samples[1].texts) == ([name, "given"] if backward else ["given", name])
    assert task.samples(model, rows) == samples


def test_ar_and_tar_penalties_are_summed_over_valid_tokens() -> None:
    torch.manual_seed(0)
    task = make_task(ar_alpha=2.0, tar_beta=3.0)
    model = build(task).train()
    (update, *_) = make_stream(2, 100).epoch(Position())
    (batch,) = update.batches
    states, _ = model.states(batch.columns["tokens"], batch.lengths, batch.keys)
    valid = (batch.columns["targets"] > 0).t()[..., None]
    squares = (states.square() * valid).sum() / HIDDEN  # mean over units
    changes = ((states[1:] - states[:-1]).square() * valid[1:]).sum() / HIDDEN  # mean over units
    loss, _, nll = task.loss(model, batch)
    assert (loss - nll).item() == pytest.approx((2 * squares + 3 * changes).item(), rel=1e-4)


@pytest.fixture(scope="module")
def trained(corpora, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    corpus, folder = corpora("language_modeling"), tmp_path_factory.mktemp("run")
    status, _, err = call(
        "train",
        *small_run_overrides(corpus, "language_modeling"), f"run.dir={folder}", "train.epochs=12",
        "train.lr=0.02", "model.hidden=24", "model.layers=1", "train.ema_decay=0",
        "model.dropout=0", "model.embedding_dropout=0", "model.ar_alpha=0", "model.tar_beta=0",
    )  # fmt: skip
    assert status == 0, err
    return corpus, folder


def test_a_run_learns_and_continues_a_cycle_of_words(trained: tuple[Path, Path]) -> None:
    """In the corpus, the words form a cycle; each is followed by its successor with probability
    0.9 or more."""
    corpus, folder = trained
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["metric"] == "perplexity"
    assert summary["best"] == min(
        json.loads(line)["val/perplexity"]
        for line in (folder / "metrics.jsonl").read_text().splitlines()
        if "val/perplexity" in line
    )
    assert summary["best"] < 3  # a unigram model: 16
    text = "the film a plot of actor and scene\n\nfilm a plot\n"
    status, out, err = call(
        "predict", "--run", str(folder), "task.temperature=0", "task.max_new_tokens=2", text=text
    )
    assert status == 0, err
    assert [json.loads(line) for line in out.splitlines()] == [
        {"continuation": "was music"}, {"error": "the text is empty"},
        {"continuation": "of actor"},
    ]  # fmt: skip
    status, out, err = call("evaluate", "--run", str(folder), "--input", str(corpus / "lines.txt"))
    assert status == 0, err
    assert json.loads(out)["perplexity"] < 3


def test_evaluation_of_a_file_does_not_depend_on_the_chunk_size(trained: tuple[Path, Path]) -> None:
    corpus, folder = trained
    predictor = load(folder)
    whole, skips = evaluate_files(predictor.trained, str(corpus / "lines.txt"))
    predictor.trained = replace(predictor.trained, chunk_rows=7)
    assert evaluate_files(predictor.trained, str(corpus / "lines.txt")) == (whole, skips)
