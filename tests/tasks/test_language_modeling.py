"""Language models: figures by hand, states that are carried, what is written."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.corpus.field_spec import DOCUMENT
from pipeline.corpus.tokenization.special_tokens import UNK
from pipeline.inference.predictor import Predictor
from pipeline.models.dropout import TypeDropout
from pipeline.models.language_model import LanguageModel
from pipeline.models.settings import ModelSettings
from pipeline.run.folder import RunFolder
from pipeline.stream.batch import Batch
from pipeline.stream.bptt import BpttStream, InMemoryTokens
from pipeline.stream.plan import Position
from pipeline.stream.settings import StreamSettings
from pipeline.tasks.language_modeling import LanguageModeling
from pipeline.tasks.settings import TaskSettings
from tests.helpers.corpora import small
from tests.helpers.processes import run
from tests.helpers.task_data import Data
from tests.launch.test_entry_points import launch

WORDS = 40


def settings(**changes: object) -> ModelSettings:
    values = {"embedding": 6, "hidden": 6, "layers": 2, "bidirectional": False} | changes
    return ModelSettings(**values)  # type: ignore[arg-type]


def task(**changes: object) -> LanguageModeling:
    return LanguageModeling(TaskSettings(), settings(**changes), Data({"tokenizer": WORDS}))


def batches(
    lanes: int, stretch: int, tokens: int = 61, turned: tuple[bool, ...] = (False,)
) -> BpttStream:
    text = np.random.default_rng(0).integers(4, WORDS, tokens)
    own = StreamSettings(batch_rows=lanes, bptt_length=stretch)
    return BpttStream(InMemoryTokens("x", text), own, 0, turned=turned)


def losses(of: LanguageModeling, model: LanguageModel, stream: BpttStream) -> Tensor:
    """[B, all tokens of a lane]"""
    model.eval()
    with torch.no_grad():
        parts = [of.outputs(model, u.batches[0])[..., 0] for u in stream.epoch(Position())]
    return torch.cat(parts, 1)


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru", "goru"])
@pytest.mark.parametrize("softmax", ["full", "adaptive"])
def test_cut_into_stretches_a_text_is_worth_the_same(cell: str, softmax: str) -> None:
    torch.manual_seed(0)
    of = task(cell=cell, softmax=softmax, goru_capacity=2 if cell == "goru" else 0)
    model = of.build()
    assert isinstance(model, LanguageModel)
    whole, cut = (losses(of, model, batches(3, stretch)) for stretch in (100, 7))
    assert torch.allclose(whole, cut, atol=1e-5)
    assert whole.sum() > 0


def test_of_two_directions_each_reads_and_predicts_its_own() -> None:
    """The forward stack's losses are those of the forward rows alone, the other's those of a
    forward stack with its weights on the text turned round."""
    torch.manual_seed(0)
    of = task(bidirectional=True, independent_directions=True)
    both = of.build()
    assert isinstance(both, LanguageModel)
    found = losses(of, both, batches(1, 7, turned=(False, True)))  # [2, T]
    for number, text in enumerate((batches(1, 7), batches(1, 7, turned=(True,)))):
        alone = task()
        model = alone.build()
        assert isinstance(model, LanguageModel)
        model.load_state_dict(
            {name.replace(f"stack.stacks.{number}.", "stack."): value
             for name, value in both.state_dict().items() if f"stacks.{1 - number}" not in name}
        )  # fmt: skip
        assert torch.allclose(losses(alone, model, text), found[number : number + 1], atol=1e-6)
    (update, *_) = batches(1, 100, turned=(False, True)).epoch(Position())
    whole = losses(of, both, batches(1, 100, turned=(False, True)))
    figures = of.evaluation(of.evaluate(whole[..., None], update.batches[0])[0]).metrics
    for name, own in zip(("forward", "backward"), whole, strict=True):
        expected = math.exp(own.sum() / 60)
        assert figures[f"perplexity_{name}"] == pytest.approx(expected, rel=1e-5)


def test_words_that_are_dropped_are_so_wherever_they_stand_in_a_row() -> None:
    drop = TypeDropout(0.5, site=3).train()
    tokens = torch.arange(40).repeat(2, 1, 1).permute(0, 2, 1).reshape(80, 1).repeat(1, 3)
    kept = drop(torch.ones(80, 3, 2), tokens, torch.tensor([1, 2, 1]))
    assert kept[:40].equal(kept[40:])
    assert kept[:, 0].equal(kept[:, 2])
    assert not kept[:, 0].equal(kept[:, 1])
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert drop.eval()(torch.ones(80, 3, 2), tokens, torch.ones(3)).equal(torch.ones(80, 3, 2))


def test_the_loss_is_minus_the_likelihood_of_each_next_token() -> None:
    torch.manual_seed(0)
    of = task(tie_embeddings=True)
    model = of.build()
    (update, *_) = batches(2, 100).epoch(Position())
    (batch,) = update.batches
    found = losses(of, model, batches(2, 100))
    states, _ = model.states(batch.columns["tokens"], batch.lengths, batch.keys)
    chances = model.log_probs(states).exp()  # [T, B, V]
    assert torch.allclose(chances.sum(-1), torch.ones_like(chances[..., 0]), atol=1e-5)
    for row in range(2):
        for t, target in enumerate(batch.columns["targets"][row].tolist()):
            expected = -math.log(chances[t, row, target]) if target else 0.0
            assert found[row, t].item() == pytest.approx(expected, abs=1e-5)
    tally, mistakes = of.evaluate(found[..., None], batch)
    nll, count = found.sum().item(), 60
    expected = {"loss": nll / count, "perplexity": math.exp(nll / count),
                "bits_per_byte": nll / count / math.log(2) / 3, "examples": 2}  # fmt: skip
    assert of.evaluation(tally).metrics == pytest.approx(expected)
    assert not mistakes
    model.train()
    assert of.metrics(of.loss(model, batch).tolist())["loss"] == pytest.approx(nll / count)


def test_what_is_drawn_for_a_text_hangs_on_neither_its_place_nor_its_neighbors() -> None:
    torch.manual_seed(0)
    of = task()
    model = of.build().eval()
    texts = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0], [5, 6, 7, 9]])
    lengths = torch.tensor([4, 2, 4])

    def written(*order: int) -> list[list[float]]:
        own, places = torch.tensor(order), torch.arange(len(order))
        columns = {"tokens": texts[own, : int(lengths[own].max())], DOCUMENT: places}
        batch = Batch(columns, lengths[own], torch.ones(len(order)), places)
        with torch.no_grad():
            return [row[:8, 0].tolist() for row in of.outputs(model, batch)]

    whole = written(0, 1, 2)
    assert written(2, 0) == [whole[2], whole[0]]
    assert written(1) == [whole[1]]
    assert whole[0] != whole[2]


def test_there_are_no_bits_per_byte_where_a_word_is_not_known() -> None:
    of = task()
    (update, *_) = batches(2, 100).epoch(Position())
    (batch,) = update.batches
    batch.columns["targets"][0, 3] = UNK
    tally, _ = of.evaluate(torch.ones(*batch.columns["targets"].shape, 1), batch)
    assert of.evaluation(tally).metrics.keys() == {"loss", "perplexity", "examples"}


def test_evaluation_leaves_alone_what_training_carries() -> None:
    torch.manual_seed(0)
    of, stream = task(), batches(2, 7)
    model = of.build()
    updates = list(stream.epoch(Position()))
    of.loss(model.train(), updates[0].batches[0])
    before = of.carried()
    losses(of, model, stream)
    after = of.carried()
    assert before is not None
    assert after is not None
    assert before.equal(after)
    assert before.shape == (2, 2, 2, 6)
    of.carry(before)
    again = of.carried()
    assert again is not None
    assert again.equal(before)


@pytest.mark.parametrize("forget", [0.0, 0.5, 1.0])
def test_some_stretches_of_training_begin_anew_and_none_of_evaluation(forget: float) -> None:
    torch.manual_seed(0)
    of = LanguageModeling(
        TaskSettings(state_reset_prob=forget), settings(), Data({"tokenizer": WORDS})
    )
    model = of.build().train()
    begun = []
    for update in batches(8, 3, 900).epoch(Position()):
        (batch,) = update.batches
        states = of._before(model, batch)
        begun += [not any(state.h[0, row].any() for state in states) for row in range(8)]
        of.loss(model, batch)
    share = (sum(begun) - 8) / (len(begun) - 8)
    assert share == pytest.approx(forget, abs=0.1)
    of.carry(torch.ones(8, 2, 2, 6))
    of._carried[False] = of._carried[True]
    assert all(state.h.all() for state in of._before(model.eval(), batch))


@pytest.mark.parametrize(
    "reads",
    [{}, {"reverse": True}, {"bidirectional": True, "independent_directions": True}],
    ids=str,
)
def test_samples_go_on_from_some_places_and_from_nothing(reads: dict[str, bool]) -> None:
    """Those of a model that reads from the end stand in the order of the text, too."""
    torch.manual_seed(0)
    of, backward = task(**reads), "reverse" in reads
    (update, *_) = batches(2, 25, turned=of.model.reversed_directions).epoch(Position())
    (batch,), model = update.batches, of.build().eval()
    assert of.showable(batch).tolist() == [True, True, False, False][: len(batch.lengths)]
    lanes = Batch({"tokens": batch.columns["tokens"][:2]}, *[batch.lengths[:2]] * 3)
    samples = of.show(model, lanes)
    assert of.carried() is None
    text = np.random.default_rng(0).integers(4, WORDS, 61).tolist()
    places = [text[10:30], text[41:61]] if backward else [text[:20], text[30:50]]
    given = [" ".join(map(str, place)) for place in ([3], *places)]
    assert [sample.texts["given"] for sample in samples] == given
    written = "beginning" if backward else "continuation"
    assert samples[1].texts[written]
    assert list(samples[1].texts)[not backward] == written
    assert of.show(model, lanes) == samples


def test_penalties_are_sums_over_tokens_that_count() -> None:
    torch.manual_seed(0)
    of = task(ar_alpha=2.0, tar_beta=3.0)
    model = of.build().train()
    (update, *_) = batches(2, 100).epoch(Position())
    (batch,) = update.batches
    states, _ = model.states(batch.columns["tokens"], batch.lengths, batch.keys)
    valid = (batch.columns["targets"] > 0).t()[..., None]
    squares = (states.square() * valid).sum() / 6
    changes = ((states[1:] - states[:-1]).square() * valid[1:]).sum() / 6
    loss, _, nll = of.loss(model, batch)
    assert (loss - nll).item() == pytest.approx((2 * squares + 3 * changes).item(), rel=1e-4)


@pytest.fixture(scope="module")
def trained(corpora, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    corpus, folder = corpora("language_modeling"), tmp_path_factory.mktemp("run")
    status, _, err = run(
        *small(corpus, "language_modeling"), f"run.dir={folder}", "train.epochs=12",
        "train.lr=0.02", "model.hidden=24", "model.layers=1", "train.ema_decay=0", "model.dropout=0",
        "model.embedding_dropout=0", "model.ar_alpha=0", "model.tar_beta=0",
    )  # fmt: skip
    assert status == 0, err
    return corpus, folder


def test_a_ring_of_words_is_learnt_and_gone_on_with(trained: tuple[Path, Path]) -> None:
    """A word follows the one before it nine times of ten; perplexity is what is judged by."""
    corpus, folder = trained
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["metric"] == "perplexity"
    assert summary["best"] == min(
        json.loads(line)["val/perplexity"]
        for line in (folder / "metrics.jsonl").read_text().splitlines()
        if "val/perplexity" in line
    )
    assert summary["best"] < 3  # of words alone: 16
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


def test_a_file_is_evaluated_as_one_text_however_it_is_read(trained: tuple[Path, Path]) -> None:
    corpus, folder = trained
    predictor = Predictor(folder, RunFolder(folder).read_config(), print)
    whole, skips = predictor.evaluate(str(corpus / "lines.txt"))
    predictor.chunk = 7
    assert predictor.evaluate(str(corpus / "lines.txt")) == (whole, skips)
