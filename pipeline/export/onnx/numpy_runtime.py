"""Predict with an exported ONNX folder: one text per line in, one JSON object per line out.

    python predict_onnx.py [FOLDER] < texts.txt

FOLDER is the exported folder, by default the folder of this file. In Python:

    import predict_onnx
    model = predict_onnx.load("FOLDER")
    model.predict(["A fine film."])

This file needs Python 3.10, numpy, onnxruntime and tokenizers (requirements.txt), or Pillow for
images. The input and the results are those of `headrace predict` in precision fp32; if config.json
has the entry `int8`, probabilities differ from them. For entailment, a line has two texts with a
tab between them; for tagging, words with spaces between them.

Shapes: B rows of a batch, T tokens of the longest row, C labels or tags, L layers, H hidden units,
V vocabulary, K hypotheses per row, N = K * B hypotheses (the first of every row, then the second of
every row, ...).
"""

import argparse
import codecs
import io
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

FORMAT, VERSION = "headrace-onnx", 1
MAX_PIXELS = 1 << 26
"""Size limit of an image."""
MARGIN_TOKENS, CHARACTERS_PER_TOKEN = 128, 8
"""Only a part of a long text is tokenized. The part has `MARGIN_TOKENS` more tokens than needed,
because a cut can change the tokens next to it."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
EMPTY = "the text is empty"
NOT_ASCII_SPACE = re.compile(r"[^ \t\n\r\f\v]+")
TAG = re.compile(r"O|([BIES])(?:-(.+))?", re.DOTALL)

Array = NDArray[Any]
Prediction = dict[str, Any]


class OnnxError(Exception):
    """The folder cannot be used; the message has one line."""


class UnusableError(Exception):
    """A text that cannot be used; the message is its prediction's `error`."""


def load(folder: str | Path, *, threads: int = 0) -> "Model":
    """Return the model of an exported folder.

    `threads` is the number of threads per operator; 0: one per core. Raises OnnxError if the folder
    is incomplete or damaged.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if (config["format"], config["version"]) != (FORMAT, VERSION):
            raise OnnxError(
                f"{folder}: was exported by another version; use the predict_onnx.py in this folder"
            )
        for name, digest in config["files"].items():
            if sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise OnnxError(f"{folder / name}: is damaged; export the run again")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OnnxError(f"{folder}: is not an exported folder: {error!r}; export again") from None
    return MODELS[config["task"]](folder, config, threads)


class Model(ABC):
    """Predicts from lines of text. The base class of all tasks."""

    lines_per_chunk = 4096
    """Number of lines that are sorted by length and batched together."""
    top_k = 0
    """Number of the most probable labels in `scores`; 0: all, but at most 50."""

    def __init__(self, folder: Path, config: Mapping[str, Any], threads: int) -> None:
        self.folder, self.config, self._threads = folder, config, threads
        self.encoders = {
            field["name"]: TextEncoder(folder / f"{field['vocabulary']}.json", config)
            for field in config["inputs"]
            if field["kind"] in ("text", "words")
        }
        self.session = self.open("model.onnx")

    def open(self, name: str) -> Any:
        """Return an onnxruntime session of one of the folder's graphs."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        path = str(self.folder / name)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(self, lines: Sequence[str]) -> list[Prediction]:
        """Return the prediction for each line, or an `error` if the line cannot be used."""
        results: list[Prediction] = [{} for _ in lines]
        rows: list[tuple[int, dict[str, Array]]] = []  # the line's number and its inputs
        for number, line in enumerate(lines):
            try:
                rows += [(number, row) for row in self.encode(line)]
            except UnusableError as error:
                results[number] = {"error": str(error)}
        lengths = [len(next(iter(row.values()))) for _, row in rows]
        outputs: dict[int, Any] = {}  # by index of the row
        for batch in self._batches(lengths):
            outputs |= zip(batch, self.run([rows[i][1] for i in batch]), strict=True)
        segments: dict[int, list[tuple[Any, int]]] = {number: [] for number, _ in rows}
        for index, (number, _) in enumerate(rows):
            segments[number].append((outputs[index], lengths[index]))
        for number, parts in segments.items():
            results[number] = self.prediction(self.merge(parts), lines[number])
        return results

    def encode(self, line: str) -> list[dict[str, Array]]:
        """Return the inputs of a line by name: one row, or several if the text is split."""
        texts = self.parse(line)
        for text in texts.values():
            self._check_text(text)
        rows = [self.encoders[name].encode(text) for name, text in texts.items()]
        return [dict(zip(texts, row, strict=True)) for row in zip(*rows, strict=True)]

    def parse(self, line: str) -> dict[str, str]:
        """Return the texts of a line by the names of the inputs."""
        return {self.config["inputs"][0]["name"]: line}

    @abstractmethod
    def run(self, rows: Sequence[Mapping[str, Array]]) -> Iterable[Any]:
        """Return the outputs of each row."""

    def merge(self, segments: Sequence[tuple[Array, int]]) -> Array:
        """Return the mean of the outputs of a line's rows, weighted by their numbers of tokens."""
        if len(segments) == 1:
            return segments[0][0]
        weights = np.array([tokens for _, tokens in segments])
        sums = sum(output * tokens for output, tokens in segments)
        return np.asarray(sums / weights.sum())

    @abstractmethod
    def prediction(self, output: Array, line: str) -> Prediction:
        """Return the prediction for the merged outputs of a line."""

    def _check_text(self, text: str) -> None:
        if not text or text.isspace():
            raise UnusableError(EMPTY)
        self._check_characters(text)

    def _check_characters(self, text: str) -> None:
        errors = self.config["errors"]
        if "\0" in text:
            raise UnusableError(f"the text has {errors['nul']}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnusableError(f"the text has {errors['not_utf8']}") from None

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield the indices of the rows of each batch: similar lengths, at most `token_budget`."""
        batch: list[int] = []
        for index in np.argsort(-np.array(lengths, np.int64), kind="stable").tolist():
            if batch and (len(batch) + 1) * lengths[batch[0]] > self.config["token_budget"]:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch


class Classification(Model):
    """One label per text."""

    def run(self, rows: Sequence[Mapping[str, Array]]) -> Iterable[Any]:
        (logits,) = self.session.run(["logits"], self.feed(rows))
        return self.probabilities(logits.astype(np.float64))

    def feed(self, rows: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        tokens, lengths = pad([row["tokens"] for row in rows])
        return {"tokens": tokens, "lengths": lengths}

    def probabilities(self, logits: Array) -> Array:
        return softmax(logits)

    def prediction(self, output: Array, line: str) -> Prediction:
        best = int(output.argmax())
        if self.config["temperature"] != 1:
            logits = np.log(output.clip(np.finfo(np.float64).tiny))
            output = softmax(logits / self.config["temperature"])
        probability = round(float(output[best]), 6)
        label = self.config["labels"][best]
        return {"label": label, "probability": probability, **self.scores(output)}

    def scores(self, output: Array) -> Prediction:
        """Return the probability of each label by name, or only the largest probabilities."""
        labels, most = self.config["labels"], self.top_k or self.config["max_scores"]
        order = list(range(len(labels)))
        if self.top_k or len(labels) > most:
            order = np.argsort(-output, kind="stable")[:most].tolist()
        scores = {"scores": {labels[k]: round(float(output[k]), 6) for k in order}}
        left_out = len(labels) - len(order)
        return scores | ({"scores_left_out": left_out} if left_out else {})


class Entailment(Classification):
    """One label per pair of texts."""

    def parse(self, line: str) -> dict[str, str]:
        first, _, second = line.partition("\t")
        return {"tokens": first, "pair": second}

    def feed(self, rows: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        pair, pair_lengths = pad([row["pair"] for row in rows])
        return {**super().feed(rows), "pair": pair, "pair_lengths": pair_lengths}


class Images(Classification):
    """One label per image; a line is the path of a PNG or JPEG."""

    lines_per_chunk = 256

    def encode(self, line: str) -> list[dict[str, Array]]:
        try:
            data = Path(line.strip()).read_bytes()
        except (OSError, ValueError):
            raise UnusableError("no such file") from None
        pixels = read_image(data, self.config["image_size"], self.config["channels"])
        if pixels is None:
            raise UnusableError("the file is not a readable PNG or JPEG")
        return [{"steps": image_steps(pixels, self.config["step"], self.config["patch"])}]

    def feed(self, rows: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        steps, lengths = pad([row["steps"] for row in rows])
        return {"steps": steps, "lengths": lengths}


class MultiLabel(Classification):
    """Any number of labels per text."""

    def probabilities(self, logits: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-logits)))

    def prediction(self, output: Array, line: str) -> Prediction:
        chosen = (output >= np.array(self.config["thresholds"])).tolist()
        labels = [
            n for n, is_chosen in zip(self.config["labels"], chosen, strict=True) if is_chosen
        ]
        return {"labels": labels, **self.scores(output)}


class Regression(Classification):
    """A number per text."""

    def run(self, rows: Sequence[Mapping[str, Array]]) -> Iterable[Any]:
        (score,) = self.session.run(["score"], self.feed(rows))
        return np.asarray(score.astype(np.float64))

    def prediction(self, output: Array, line: str) -> Prediction:
        number = float(output) * self.config["scale"] + self.config["mean"]
        return {"number": float(f"{number:.7g}")}


class Tagging(Model):
    """A tag per word; entities if the tags are BIO or BIOES."""

    def encode(self, line: str) -> list[dict[str, Array]]:
        words = split_words(line)
        if not words:
            raise UnusableError(EMPTY)
        self._check_characters("".join(words))
        inputs = {"tokens": self.encoders["tokens"].encode_words(words)}
        if self.config["word_bytes"]:
            inputs["characters"] = word_bytes(words, self.config["word_bytes"])
        parts = -(-len(words) // self.config["max_tokens"])  # every word gets a tag
        split = {name: np.array_split(array, parts) for name, array in inputs.items()}
        return [{name: arrays[n] for name, arrays in split.items()} for n in range(parts)]

    def run(self, rows: Sequence[Mapping[str, Array]]) -> Iterable[Any]:
        tokens, lengths = pad([row["tokens"] for row in rows])
        feed = {"tokens": tokens, "lengths": lengths}
        if self.config["word_bytes"]:
            feed["characters"], _ = pad([row["characters"] for row in rows])
        if not self.config["crf"]:
            (emissions,) = self.session.run(["emissions"], feed)
            return [e[:n].argmax(-1) for e, n in zip(emissions, lengths, strict=True)]
        names = ["emissions", "transitions", "start", "end"]
        emissions, *weights = self.session.run(names, feed)
        allowed = self.config["allowed"] and np.array(self.config["allowed"], bool)
        rows_emissions = zip(emissions, lengths, strict=True)
        return [viterbi(e[:n], weights, allowed) for e, n in rows_emissions]

    def merge(self, segments: Sequence[tuple[Array, int]]) -> Array:
        return np.concatenate([output for output, _ in segments])

    def prediction(self, output: Array, line: str) -> Prediction:
        words, tags = split_words(line), [self.config["tags"][tag] for tag in output.tolist()]
        if not self.config["scheme"]:
            return {"tags": [list(pair) for pair in zip(words, tags, strict=True)]}
        return {
            "spans": [
                {"label": label, "text": " ".join(words[a:b]), "start": a, "stop": b}
                for label, a, b in spans(tags)
            ]
        }


class LanguageModeling(Model):
    """Continues a text, or generates its beginning if the model reads backward."""

    def run(self, rows: Sequence[Mapping[str, Array]]) -> Iterable[Any]:
        """Return the generated tokens of each row, sampled as `headrace predict` samples them."""
        c, texts = self.config, [row["tokens"] for row in rows]
        keys = hash_texts(texts) + np.uint64(c["seed"])
        tokens, lengths = pad([text[::-1] for text in texts] if c["reads_backward"] else texts)
        feed = {"tokens": tokens, "lengths": lengths, "positions": lengths[:, None] - 1}
        states = [node for node in self.session.get_inputs() if node.name in ("h", "c")]
        for node in states:
            feed[node.name] = np.zeros((node.shape[0], len(rows), node.shape[2]), np.float32)
        names = ["log_probs", *(f"next_{node.name}" for node in states)]
        ones, zeros = np.ones(len(rows), np.int64), np.zeros((len(rows), 1), np.int64)
        ended, generated = np.zeros(len(rows), bool), []
        for step in range(c["max_new_tokens"]):
            log_probs, *after = self.session.run(names, feed)
            scores = log_probs[:, 0]  # [B, V]
            scores[:, : c["end"]] = -np.inf  # only text and </s>
            if c["temperature"]:
                scores = scores + np.float32(c["temperature"]) * gumbel(keys, step, scores.shape[1])
            token = scores.argmax(-1)
            ended = ended | (token == c["end"])
            generated.append(np.where(ended, -1, token))
            if ended.all():
                break
            feed = {"tokens": token[:, None], "lengths": ones, "positions": zeros}
            feed |= {node.name: state for node, state in zip(states, after, strict=True)}
        return [row[row >= 0] for row in np.stack(generated, 1)]

    def prediction(self, output: Array, line: str) -> Prediction:
        decode = self.encoders["tokens"].decode
        if self.config["reads_backward"]:
            return {"beginning": decode(output[::-1].tolist())}
        return {"continuation": decode(output.tolist())}


class Translation(Model):
    """Translates texts by beam search."""

    def __init__(self, folder: Path, config: Mapping[str, Any], threads: int) -> None:
        self._decoder: Any = None
        super().__init__(folder, config, threads)
        self._decoder = self.open("decoder.onnx")
        self._target = TextEncoder(folder / f"{config['target_vocabulary']}.json", config)

    def open(self, name: str) -> Any:
        return super().open("encoder.onnx" if name == "model.onnx" else name)

    def run(self, rows: Sequence[Mapping[str, Array]]) -> Iterable[Any]:
        """Return the hypotheses of each row, best first: (score, tokens)."""
        c = self.config
        source, lengths = pad([row["source"] for row in rows])
        decoder = Decoder(self._decoder, self.session, source, lengths)
        limits = (lengths.astype(np.float32) * np.float32(c["max_length_ratio"])).astype(np.int64)
        return beam_search(
            decoder, limits + c["extra_tokens"], begin=c["begin"], end=c["end"],
            suppress_tokens=c["never_generated"], beam_size=c["beam_size"], n_best=c["n_best"],
            alpha=c["length_penalty"],
        )  # fmt: skip

    def prediction(self, output: Any, line: str) -> Prediction:
        best = [{"translation": self._text(ids), "score": round(s, 6)} for s, ids in output]
        if not best:
            return {"error": "no text has a finite score"}
        return best[0] | ({"best": best} if self.config["n_best"] > 1 else {})

    def _text(self, ids: Sequence[int]) -> str:
        known: list[list[int]] = [[]]  # runs of tokens between unknown words
        for token in ids:
            if token == self.config["unknown"]:
                known.append([])
            else:
                known[-1].append(token)
        parts = [self._target.decode(tokens) for tokens in known]
        return (
            parts[0] if len(parts) == 1 else f" {self.config['unknown_word']} ".join(parts).strip()
        )


MODELS: dict[str, type[Model]] = {
    "classification": Classification,
    "entailment": Entailment,
    "images": Images,
    "multilabel": MultiLabel,
    "regression": Regression,
    "tagging": Tagging,
    "language_modeling": LanguageModeling,
    "translation": Translation,
}


class TextEncoder:
    """Encodes texts as rows of at most `max_tokens` token ids, and decodes ids.

    A longer text is truncated at the start, the end or both, split into rows of nearly the same
    length, or dropped. Names of special tokens in a text are plain text.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel

        content = json.loads(path.read_bytes()) | {"truncation": None, "padding": None}
        if "dropout" in content["model"]:
            content["model"]["dropout"] = None
        self._config = config
        self._tokenizer = Tokenizer.from_str(json.dumps(content))
        self._tokenizer.encode_special_tokens = True
        self._unknown: dict[int, int] = {}
        model: Any = self._tokenizer.model
        if isinstance(model, WordLevel):  # the word "<pad>" is unknown, not padding
            unknown = self._tokenizer.token_to_id(model.unk_token)
            added = self._tokenizer.get_added_tokens_decoder()
            if unknown is not None:
                self._unknown = {n: unknown for n, token in added.items() if token.special}
        self._words = Tokenizer.from_str(json.dumps(content))
        self._words.encode_special_tokens = True
        if isinstance(model, WordLevel):
            self._words.pre_tokenizer = None

    def encode(self, text: str) -> list[Array]:
        """Return the rows of a text. Raises UnusableError if it has none."""
        limit, overflow = self._config["max_tokens"], self._config["overflow"]
        head = self._side(text, limit + 1, end=False)
        if not head:
            raise UnusableError(EMPTY)
        if len(head) <= limit:
            return [np.array(head)]
        if overflow == "drop":
            raise UnusableError(f"the text has {self._config['errors']['too_long']}")
        if overflow == "split":
            ids = self._ids(text)
            return np.array_split(np.array(ids), -(-len(ids) // limit))
        side = self._config["truncation_side"]
        first = {"start": limit, "both": limit // 2, "end": 0}[side]
        return [np.array(head[:first] + self._side(text, limit - first, end=True))]

    def encode_words(self, words: Sequence[str]) -> Array:
        """Return one id per word."""
        encoding = self._words.encode(list(words), is_pretokenized=True, add_special_tokens=False)
        if len(encoding.ids) != len(words):
            raise OnnxError("the tokenizer splits or removes words, but every word has a tag")
        return np.array([self._unknown.get(n, n) for n in encoding.ids])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _ids(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._unknown.get(n, n) for n in ids]

    def _side(self, text: str, count: int, *, end: bool) -> list[int]:
        """Return the first or the last `count` ids, encoding only as much as is needed."""
        if not count:
            return []
        enough = count + MARGIN_TOKENS
        characters = enough * CHARACTERS_PER_TOKEN
        while True:
            ids = self._ids(text[-characters:] if end else text[:characters])
            if len(ids) >= enough or characters >= len(text):
                return ids[-count:] if end else ids[:count]
            characters *= 4


class Decoder:
    """The decoder of a batch of source texts, with the states of the hypotheses."""

    def __init__(self, decoder: Any, encoder: Any, source: Array, lengths: Array) -> None:
        self._session = decoder
        names = [node.name for node in encoder.get_outputs()]
        found = encoder.run(names, {"source": source, "lengths": lengths})
        outputs = dict(zip(names, found, strict=True))
        self._memory = {name: outputs.pop(name) for name in ("memory", "attention_keys")}
        self._memory["lengths"] = lengths
        self._states = outputs

    def step(self, tokens: Array) -> Array:
        """Return the log-probabilities [N, V] of the next token, given the last ones [N]."""
        names = ["log_probs", *(f"next_{name}" for name in self._states)]
        feed = {"tokens": tokens, **self._states, **self._memory}
        log_probs, *states = self._session.run(names, feed)
        self._states = dict(zip(self._states, states, strict=True))
        return np.asarray(log_probs)

    def select(self, hypotheses: Array, rows: Array) -> None:
        """Keep the states of some hypotheses and the sources of some rows."""
        self._states = {name: state[:, hypotheses] for name, state in self._states.items()}
        if len(rows) < len(self._memory["lengths"]):
            self._memory = {name: array[rows] for name, array in self._memory.items()}


def beam_search(
    decoder: Any,
    limits: Array,
    *,
    begin: int,
    end: int,
    suppress_tokens: Sequence[int] = (),
    beam_size: int = 4,
    n_best: int = 1,
    alpha: float = 0.6,
) -> list[list[tuple[float, list[int]]]]:
    """Return up to `n_best` hypotheses per row, best first: the score and the tokens before `end`.

    The score is log P / ((5 + n) / 6)^alpha (Wu et al. 2016), where n counts the tokens with `end`.
    `limits` [B] bounds n. A row is finished when no unfinished hypothesis can still enter its
    `n_best`. `decoder` has the methods of `Decoder`.
    """
    rows = list(range(len(limits)))
    row_limits = limits.tolist()
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in rows]  # (-score, tokens)
    texts: list[list[list[int]]] = [[[]] for _ in rows]  # of each row, by hypothesis
    tokens, totals = np.full(len(rows), begin), np.zeros((1, len(rows)))  # [N], [K, B]
    n = 0
    while rows:
        n += 1
        log_probs = decoder.step(tokens).reshape(*totals.shape, -1)  # [K, B, V]
        ids = top(log_probs, beam_size + len(suppress_tokens))  # [K, B, candidates]
        values = np.take_along_axis(log_probs, ids, -1)
        values[np.isin(ids, suppress_tokens)] = -np.inf
        at_limit = limits <= n  # [B]: these hypotheses may only end
        values[:, at_limit] = -np.inf
        values[:, at_limit, 0] = log_probs[:, at_limit, end]
        ids[:, at_limit] = end
        candidates = ids.shape[2]
        sums = (totals[..., None] + values).swapaxes(0, 1).reshape(len(rows), -1)
        picked = top(sums, beam_size)  # [B, K]
        sums = np.take_along_axis(sums, picked, 1)
        parents = picked // candidates
        ids = np.take_along_axis(ids.swapaxes(0, 1).reshape(len(rows), -1), picked, 1)
        is_end = (ids == end) & np.isfinite(sums)
        kept = []
        for slot, row in enumerate(rows):
            before = [texts[row][parent] for parent in parents[slot]]
            for index in np.nonzero(is_end[slot])[0]:
                score = sums[slot, index] / length_penalty(n, alpha)
                finished[row].append((-float(score), before[index]))
            texts[row] = [
                [*text, token] for text, token in zip(before, ids[slot].tolist(), strict=True)
            ]
            best = finished[row] = sorted(finished[row], key=lambda h: (h[0], len(h[1])))[:n_best]
            sums[slot, is_end[slot]] = -np.inf  # ended hypotheses keep their index
            bound = sums[slot].max() / length_penalty(row_limits[row], alpha)
            if bound > (-best[-1][0] if len(best) == n_best else -np.inf):
                kept.append(slot)
        keep = np.array(kept, np.int64)
        decoder.select((parents[keep] * len(rows) + keep[:, None]).T.ravel(), keep)
        tokens, totals, limits = ids[keep].T.ravel(), sums[keep].T, limits[keep]
        rows = [rows[slot] for slot in kept]
    return [[(-score, text) for score, text in found] for found in finished]


def softmax(logits: Array) -> Array:
    """Return the softmax of the last axis."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def length_penalty(n: int, alpha: float) -> float:
    """Return the divisor of the log-probability of a hypothesis of n tokens."""
    return float(((5 + n) / 6) ** alpha)


def top(values: Array, count: int) -> Array:
    """Return the indices of the largest values of the last axis, largest first."""
    count = min(count, values.shape[-1])
    indices = np.argpartition(-values, count - 1, axis=-1)[..., :count]
    order = np.argsort(-np.take_along_axis(values, indices, -1), axis=-1, kind="stable")
    return np.take_along_axis(indices, order, -1)


def viterbi(emissions: Array, weights: Sequence[Array], allowed: Array | None = None) -> Array:
    """Return the most probable tags [T] of a row, given its emissions [T, C].

    `weights` are those of the CRF: transitions [C, C] from a tag to the next, start and end [C].
    `allowed` [C + 2, C + 2] is true at [i, j] if tag j may follow tag i; row C is the start, column
    C + 1 the end. Pairs that are not allowed get a penalty that exceeds any other difference.
    """
    transitions, start, end = weights
    if allowed is not None:
        c = len(start)
        largest = max(np.abs(weight).max() for weight in weights)
        penalty = 4 * (np.abs(emissions).max(1).sum() + (len(emissions) + 1) * largest) + 1
        rules = allowed[:c, :c], allowed[c, :c], allowed[:c, c + 1]
        transitions, start, end = (
            np.where(rule, weight, weight - penalty)
            for weight, rule in zip(weights, rules, strict=True)
        )
    best, pointers = start + emissions[0], []
    for scores in emissions[1:]:
        extended = best[:, None] + transitions  # [C, C]
        pointers.append(extended.argmax(0))
        best = extended.max(0) + scores
    tags = [int((best + end).argmax())]
    for pointer in reversed(pointers):
        tags.append(int(pointer[tags[-1]]))
    return np.array(tags[::-1])


def spans(tags: Iterable[str]) -> list[tuple[str, int, int]]:
    """Return the entities in BIO or BIOES tags: label, first word, and the word after the last."""
    entities: list[tuple[str, int, int]] = []
    previous = ("O", "")
    for position, tag in enumerate(tags):
        match = TAG.fullmatch(tag)
        assert match, tag
        prefix, label = ("O", "") if tag == "O" else (match[1], match[2] or "_")
        if prefix in "IE" and previous[0] in "BI" and label == previous[1]:
            entities[-1] = (label, entities[-1][1], position + 1)
        elif prefix != "O":
            entities.append((label, position, position + 1))
        previous = (prefix, label)
    return entities


def split_words(text: str) -> list[str]:
    """Split a text at ASCII whitespace; other whitespace is no word by itself."""
    return [word for word in NOT_ASCII_SPACE.findall(text) if not word.isspace()]


def word_bytes(words: Iterable[str], width: int) -> Array:
    """Return the UTF-8 bytes of words [T, width], padded with 0; longer words keep both ends."""
    tail, padded = width // 2, []
    for word in words:
        data = word.encode()
        if len(data) > width:
            data = data[: width - tail] + data[len(data) - tail :]
        padded.append(data.ljust(width, b"\0"))
    return np.frombuffer(b"".join(padded), np.uint8).reshape(-1, width)


def read_image(data: bytes, size: Sequence[int], channels: int) -> Array | None:
    """Return the pixels [height, width, channels] of a PNG or JPEG, resized; None if it is damaged.

    The EXIF orientation is applied, and transparent parts are blended with white.
    """
    from PIL import Image, ImageOps

    if not data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as file:
            if file.width * file.height > MAX_PIXELS:
                return None
            image: Any = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):  # 16 bits
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image = image.convert({1: "L", 3: "RGB"}[channels])
            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(image).reshape(*size, channels)
    except MemoryError:
        raise
    except Exception:  # a decoder may raise any exception on a broken image
        return None


def image_steps(pixels: Array, step: str, side: int) -> Array:
    """Return the steps of an image [T, F]: its rows, pixels, or patches of `side` pixels."""
    height, width, channels = pixels.shape
    if step == "patch":
        patches = pixels.reshape(height // side, side, width // side, side, channels)
        return np.ascontiguousarray(patches.swapaxes(1, 2)).reshape(-1, side * side * channels)
    return pixels.reshape(-1, channels * (width if step == "row" else 1))


def pad(rows: Sequence[Array]) -> tuple[Array, Array]:
    """Return rows [T, ...] as one array [B, T, ...], padded with 0, and their lengths [B]."""
    lengths = np.array([len(row) for row in rows])
    dtype = np.uint8 if rows[0].dtype == np.uint8 else np.int64
    padded = np.zeros((len(rows), lengths.max(), *rows[0].shape[1:]), dtype)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded, lengths


def hash_texts(texts: Sequence[Array]) -> Array:
    """Return a key per text, uint64; the sampling of a text depends only on its key."""
    keys = []
    for tokens in texts:
        positions = np.arange(1, len(tokens) + 1, dtype=np.uint64) * GOLDEN_GAMMA
        keys.append(_mix_bits(positions + _mix_bits(tokens.astype(np.uint64))).sum(dtype=np.uint64))
    return np.array(keys)


def gumbel(keys: Array, step: int, width: int) -> Array:
    """Return Gumbel noise [B, width] in float32 for the keys [B] at a step."""
    counters = np.arange(1, width + 1, dtype=np.uint64) + np.uint64(step << 32)
    bits = _mix_bits(keys[:, None] + counters * GOLDEN_GAMMA) >> np.uint64(40)
    uniform = bits.astype(np.float32) / np.float32(1 << 24)
    return -np.log(-np.log(uniform.clip(np.float32(1e-9), np.float32(1 - 1e-7))))


GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix_bits(x: Array) -> Array:
    """Apply SplitMix64's finalizer; arithmetic wraps around."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Predict from the lines of standard input.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads per operator; 0: one per core"
    )
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="K",
        help="limit `scores` to the K most probable labels; 0: all, but at most 50",
    )  # fmt: skip
    args = parser.parse_args()
    try:
        model = load(args.folder, threads=args.threads)
    except OnnxError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    model.top_k = args.top_k
    escapes = not codecs.lookup(sys.stdout.encoding).name.startswith("utf")
    lines = (
        line.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "surrogateescape").rstrip("\r\n")
        for line in sys.stdin.buffer
    )
    while chunk := list(islice(lines, model.lines_per_chunk)):
        for prediction in model.predict(chunk):
            print(json.dumps(prediction, ensure_ascii=escapes))


if __name__ == "__main__":
    main()
