"""Language modeling: metrics, recurrent states, generation, a run from lines to continuations."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config import load_run_config
from pipeline.corpus.field_spec import DOCUMENT
from pipeline.corpus.tokenization.special_tokens import UNK
from pipeline.inference.predictor import Predictor
from pipeline.models.dropout import TypeDropout, assign_dropout_sites
from pipeline.models.language_model import LanguageModel
from pipeline.models.settings import ModelSettings
from pipeline.stream.batch import Batch
from pipeline.stream.bptt import BpttStream, InMemoryTokens
from pipeline.stream.plan import Position
from pipeline.stream.settings import StreamSettings
from pipeline.tasks.language_modeling import LanguageModeling
from pipeline.tasks.settings import TaskSettings
from tests.helpers.corpora import small
from tests.helpers.processes import launch, run
from tests.helpers.task_data import Data

V = 40


def make_settings(**changes: object) -> ModelSettings:
    values = {"embedding": 6, "hidden": 6, "layers": 2, "bidirectional": False} | changes
    return ModelSettings(**values)


def make_task(**changes: object) -> LanguageModeling:
    return LanguageModeling(TaskSettings(), make_settings(**changes), Data({"tokenizer": V}))


def build(task: LanguageModeling) -> LanguageModel:
    model = task.build()
    assert isinstance(model, LanguageModel)
    return model


def make_stream(
    lanes: int, bptt_length: int, tokens: int = 61, reversed_directions: tuple[bool, ...] = (False,)
) -> BpttStream:
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
def test_losses_do_not_depend_on_the_segment_length(cell: str, softmax: str) -> None:
    torch.manual_seed(0)
    task = make_task(cell=cell, softmax=softmax, goru_capacity=2 if cell == "goru" else 0)
    model = build(task)
    whole, segmented = (losses(task, model, make_stream(3, length)) for length in (100, 7))
    assert torch.allclose(whole, segmented, atol=1e-5)
    assert whole.sum() > 0


def test_independent_directions_match_models_of_one_direction() -> None:
    """The forward rows' losses are those of a model with the forward stack's weights, the other
    rows' those of a forward model with the backward stack's weights on the reversed text."""
    torch.manual_seed(0)
    task = make_task(bidirectional=True, independent_directions=True)
    both = build(task)
    both_losses = losses(task, both, make_stream(1, 7, reversed_directions=(False, True)))  # [2, T]
    streams = (make_stream(1, 7), make_stream(1, 7, reversed_directions=(True,)))
    for number, stream in enumerate(streams):
        single = make_task()
        model = build(single)
        model.load_state_dict(
            {name.replace(f"stack.stacks.{number}.", "stack."): value
             for name, value in both.state_dict().items() if f"stacks.{1 - number}" not in name}
        )  # fmt: skip
        expected = both_losses[number : number + 1]
        assert torch.allclose(losses(single, model, stream), expected, atol=1e-6)
    stream = make_stream(1, 100, reversed_directions=(False, True))
    (update, *_) = stream.epoch(Position())
    whole = losses(task, both, stream)
    metrics = task.summarize(task.evaluate(whole[..., None], update.batches[0])[0]).metrics
    for name, row in zip(("forward", "backward"), whole, strict=True):
        perplexity = math.exp(row.sum() / 60)
        assert metrics[f"perplexity_{name}"] == pytest.approx(perplexity, rel=1e-5)


def test_type_dropout_drops_a_token_at_all_its_positions_in_a_row() -> None:
    drop = TypeDropout(0.5).train()
    assign_dropout_sites(drop)
    tokens = torch.arange(40).repeat(2, 1, 1).permute(0, 2, 1).reshape(80, 1).repeat(1, 3)
    kept = drop(torch.ones(80, 3, 2), tokens, torch.tensor([1, 2, 1]))
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
    nll, count = token_losses.sum().item(), 60
    expected = {"loss": nll / count, "perplexity": math.exp(nll / count),
                "bits_per_byte": nll / count / math.log(2) / 3, "examples": 2}  # fmt: skip
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
        index, numbers = torch.tensor(rows), torch.arange(len(rows))
        columns = {"tokens": texts[index, : int(lengths[index].max())], DOCUMENT: numbers}
        batch = Batch(columns, lengths[index], torch.ones(len(rows)), numbers)
        with torch.no_grad():
            return [row[:8, 0].tolist() for row in task.outputs(model, batch)]

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


def test_an_update_leaves_the_state_at_its_end_in_the_stream() -> None:
    """Evaluation on another stream does not change it."""
    torch.manual_seed(0)
    task, stream = make_task(), make_stream(2, 7)
    model = build(task)
    batch = next(stream.epoch(Position())).batches[0]
    task.loss(model.train(), batch)
    state = stream.state_dict()["tensors"]["recurrent"]
    assert state.shape == (2, 2 * 2, 6)  # lanes, h and c of two layers, hidden units
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
        TaskSettings(state_reset_prob=state_reset_prob), make_settings(), Data({"tokenizer": V})
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
    batch.recurrent_state.tensors = [torch.ones(8, 6)] * 4
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
    stream = make_stream(2, 25, reversed_directions=task.model.reversed_directions)
    (update, *_) = stream.epoch(Position())
    (batch,), model = update.batches, task.build().eval()
    assert task.displayable(batch).tolist() == [True, True, False, False][: len(batch.lengths)]
    lengths = batch.lengths[:2]
    rows = Batch({"tokens": batch.columns["tokens"][:2]}, lengths, lengths, lengths)
    samples = task.samples(model, rows)
    assert batch.recurrent_state is not None
    assert not batch.recurrent_state.tensors
    text = np.random.default_rng(0).integers(4, V, 61).tolist()
    prompts = [text[10:30], text[41:61]] if backward else [text[:20], text[30:50]]
    given = [" ".join(map(str, prompt)) for prompt in ([3], *prompts)]
    assert [sample.texts["given"] for sample in samples] == given
    name = "beginning" if backward else "continuation"
    assert samples[1].texts[name]
    assert list(samples[1].texts)[not backward] == name
    assert task.samples(model, rows) == samples


def test_ar_and_tar_penalties_are_summed_over_valid_tokens() -> None:
    torch.manual_seed(0)
    task = make_task(ar_alpha=2.0, tar_beta=3.0)
    model = build(task).train()
    (update, *_) = make_stream(2, 100).epoch(Position())
    (batch,) = update.batches
    states, _ = model.states(batch.columns["tokens"], batch.lengths, batch.keys)
    valid = (batch.columns["targets"] > 0).t()[..., None]
    squares = (states.square() * valid).sum() / 6
    changes = ((states[1:] - states[:-1]).square() * valid[1:]).sum() / 6
    loss, _, nll = task.loss(model, batch)
    assert (loss - nll).item() == pytest.approx((2 * squares + 3 * changes).item(), rel=1e-4)


@pytest.fixture(scope="module")
def trained(corpora, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    corpus, folder = corpora("language_modeling"), tmp_path_factory.mktemp("run")
    status, _, err = run(
        *small(corpus, "language_modeling"), f"run.dir={folder}", "train.epochs=12",
        "train.lr=0.02", "model.hidden=24", "model.layers=1", "train.ema_decay=0",
        "model.dropout=0", "model.embedding_dropout=0", "model.ar_alpha=0", "model.tar_beta=0",
    )  # fmt: skip
    assert status == 0, err
    return corpus, folder


def test_a_run_learns_and_continues_a_ring_of_words(trained: tuple[Path, Path]) -> None:
    """Each word is followed by the next of the ring nine times out of ten."""
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
    status, out, err = launch(
        "predict.py", "--run", str(folder), "task.temperature=0", "task.max_new_tokens=2", text=text
    )
    assert status == 0, err
    assert [json.loads(line) for line in out.splitlines()] == [
        {"continuation": "was music"}, {"error": "the text is empty"},
        {"continuation": "of actor"},
    ]  # fmt: skip
    status, out, err = launch(
        "evaluate.py", "--run", str(folder), "--input", str(corpus / "lines.txt")
    )
    assert status == 0, err
    assert json.loads(out)["perplexity"] < 3


def test_evaluation_of_a_file_does_not_depend_on_the_chunk_size(trained: tuple[Path, Path]) -> None:
    corpus, folder = trained
    predictor = Predictor(folder, load_run_config(folder / "config.yaml"))
    whole, skips = predictor.evaluate(str(corpus / "lines.txt"))
    predictor.chunk_rows = 7
    assert predictor.evaluate(str(corpus / "lines.txt")) == (whole, skips)
