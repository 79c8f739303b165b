"""Translation: texts to texts of another length (many-to-many, encoder and decoder)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.corpus.fields import Field
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.special import BEGIN, END, PAD, UNK
from pipeline.models.search import Hypothesis, search
from pipeline.models.settings import ModelSettings
from pipeline.models.translator import Translator
from pipeline.stream.batch import Batch
from pipeline.tasks.settings import TaskSettings
from pipeline.tasks.task import Contents, Evaluation, Mistake, Task

NONE = -1.0  # in the place of a token past the end of a translation
NO_SCORE = float("-inf")  # in the place of the score of a translation that there is not
NEVER = (PAD, UNK, BEGIN)
MORE = 10  # tokens that a translation may have beside those that its source allows it


class Translation(Task):
    """Cross entropy over each token of the target given those before it; BLEU and chrF of what beam
    search finds, as sacrebleu counts them.

    A text is judged as its tokens spell it: byte-level BPE gives back what it was given, but for
    what `corpus.replace` and Unicode's composition (NFC) change.

    Legend: B rows of a batch, T' target tokens of the longest row (</s> is one), n target tokens of
    all rows, V vocabulary of the target, K translations of a row, L tokens of the longest of them.
    """

    sums = ("loss", "tokens", "nll", "correct")
    best = "bleu"
    libraries = ("sacrebleu", "tokenizers")

    def __init__(self, settings: TaskSettings, model: ModelSettings, data: Contents) -> None:
        self.settings, self.model, self.data = settings, model, data
        self.joint = "tokenizer" in data.vocabularies

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[Field, ...]:
        source, target = _vocabularies(corpus.joint)
        return (
            Field("source", corpus.text, "text", vocabulary=source),
            Field("target", corpus.target, "target", vocabulary=target),
        )

    def build(self) -> nn.Module:
        source, target = (self.data.vocabularies[name] for name in _vocabularies(self.joint))
        return Translator(self.model, source, None if self.joint else target)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        target = _target(batch)
        wanted = ((target != PAD) & (batch.weights > 0)[:, None]).t()  # [T', B]
        answers = target.t()[wanted]  # [n]
        scores = model(batch.columns["source"], batch.lengths, *_fed(target), batch.keys, wanted)
        log_p, of_answers, correct = _judged(scores, answers)
        nll, share = -of_answers.sum(), self.settings.label_smoothing
        loss = (1 - share) * nll - share / scores.shape[1] * log_p.sum() if share else nll
        return torch.stack([loss, wanted.sum().to(loss), nll.detach(), correct.sum().to(loss)])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        loss, tokens, nll, correct = sums
        return {
            "loss": loss / tokens,
            "perplexity": _perplexity(nll / tokens),
            "accuracy": correct / tokens,
        }

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """[B, 2 + K * (1 + L)]: of the reference, where it is known, minus the log-probability and
        the tokens that are the likeliest where they stand; then of each translation, the best
        first, its score and its tokens, NONE past their end. Rows of weight 0 have none."""
        assert isinstance(model, Translator)
        rows = torch.nonzero(batch.weights > 0).flatten()
        found: list[list[Hypothesis]] = []
        told = torch.zeros(len(batch.weights), 2, dtype=torch.float64)
        if len(rows):
            source, lengths, keys = (
                x[rows] for x in (batch.columns["source"], batch.lengths, batch.keys)
            )
            memory = model.encode(source, lengths, keys)
            if "target" in batch.columns:
                target = _target(batch)[rows]
                features = model.decoder(*_fed(target), keys, memory)  # [T', B, P]
                wanted = (target != PAD).t()
                _, log_p, correct = _judged(
                    model.decoder.scores(features[wanted]), target.t()[wanted]
                )
                figures = torch.stack([-log_p.double(), correct.double()], 1)  # [n, 2]
                summed = figures.new_zeros(len(rows), 2).index_add_(
                    0, wanted.nonzero()[:, 1], figures
                )
                told[rows.cpu()] = summed.cpu()
            s = self.settings
            found = search(
                model.step, memory, (lengths * s.max_growth).long() + MORE,
                begin=BEGIN, end=END, never=NEVER,
                beams=s.beams, best=s.best, alpha=s.length_penalty,
            )  # fmt: skip
        longest = max((len(h.tokens) for of_row in found for h in of_row), default=0)
        written = torch.full((len(told), self.settings.best, 1 + longest), NONE, dtype=told.dtype)
        written[..., 0] = NO_SCORE
        for row, of_row in zip(rows.tolist(), found, strict=True):
            for k, h in enumerate(of_row):
                written[row, k, : 1 + len(h.tokens)] = torch.tensor(
                    [h.score, *h.tokens], dtype=told.dtype
                )
        return torch.cat([told, written.flatten(1)], 1).to(batch.weights.device)

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """The tally is [4]: the loss and the right tokens, if what stands before is the reference;
        how many tokens and rows there are."""
        weights = batch.weights.double()
        lengths = (_target(batch) != PAD).sum(1)
        figures = torch.cat([outputs[:, :2], lengths[:, None], torch.ones_like(outputs[:, :1])], 1)
        tally = weights @ figures
        mistakes: list[Mistake] = []
        rows = torch.nonzero(batch.weights > 0).flatten().tolist()
        for row, (translation, reference) in zip(rows, self.texts(outputs, batch), strict=True):
            if translation != reference:
                source = batch.columns["source"][row, : batch.lengths[row]].tolist()
                shown = {
                    "source": self.data.decode(_vocabularies(self.joint)[0], source),
                    "translation": translation,
                    "reference": reference,
                }
                mistakes.append(Mistake((outputs[row, 0] / lengths[row]).item(), [], shown))
        return tally, mistakes

    def texts(self, outputs: Tensor, batch: Batch) -> list[tuple[str, str]]:
        whole = batch.weights > 0
        references = _target(batch)[whole].tolist()
        return [
            (translations[0][1] if translations else "", self._text(reference))
            for translations, reference in zip(
                self._translations(outputs[whole]), references, strict=True
            )
        ]

    def evaluation(self, tally: Tensor, texts: Sequence[tuple[str, str]] = ()) -> Evaluation:
        from sacrebleu import BLEU, CHRF

        loss, correct, tokens, rows = tally.tolist()
        translations, references = zip(*texts, strict=True) if texts else ([""], [""])
        bleu, chrf = BLEU(tokenize=self.settings.bleu_tokenizer), CHRF()
        metrics = {
            "examples": int(rows),
            "loss": loss / max(tokens, 1),
            "perplexity": _perplexity(loss / max(tokens, 1)),
            "accuracy": correct / max(tokens, 1),
            "bleu": bleu.corpus_score(translations, [references]).score,
            "chrf": chrf.corpus_score(translations, [references]).score,
        }
        signatures = {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
        return Evaluation(metrics, signatures=signatures)

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"source": line}

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The best translation; if more are asked for, all of them."""
        found = []
        for translations in self._translations(outputs):
            told = [{"translation": text, "score": round(s, 6)} for s, text in translations]
            found.append(told[0] | ({"best": told} if self.settings.best > 1 else {}))
        return found

    def _translations(self, outputs: Tensor) -> list[list[tuple[float, str]]]:
        """The score and the text of each translation of some rows."""
        written = outputs[:, 2:].unflatten(1, (self.settings.best, -1)).tolist()
        return [
            [(score, self._text(map(int, ids))) for score, *ids in of_row if score != NO_SCORE]
            for of_row in written
        ]

    def _text(self, ids: Any) -> str:
        """Of target tokens and what fills them up."""
        spelt = [token for token in ids if token not in (NONE, PAD, END)]
        return self.data.decode(_vocabularies(self.joint)[1], spelt)


def _vocabularies(joint: bool) -> tuple[str, str]:
    """The names of the source's and the target's."""
    return ("tokenizer", "tokenizer") if joint else ("source", "target")


def _target(batch: Batch) -> Tensor:
    """[B, T'], a column at least, even where all rows only fill up the shape."""
    target = batch.columns["target"]
    return target if target.shape[1] else functional.pad(target, (0, 1), value=PAD)


def _fed(target: Tensor) -> tuple[Tensor, Tensor]:
    """What the decoder reads for a target [B, T']: the token before each, <s> before the first, and
    how many there are."""
    return functional.pad(target[:, :-1], (1, 0), value=BEGIN), (target != PAD).sum(1).clamp(min=1)


def _judged(scores: Tensor, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [n, V] of what the answers [n] ought to be -> the log-probabilities [n, V], those of
    the answers [n], and whether none is greater [n], which is far quicker to say than which one."""
    log_p = scores.log_softmax(1, dtype=torch.promote_types(scores.dtype, torch.float32))
    of_answers = log_p.gather(1, answers[:, None])[:, 0]
    return log_p, of_answers, of_answers.detach() >= log_p.detach().amax(1)


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # beyond that no float is large enough
