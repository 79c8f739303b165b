"""A prediction as HTML: bars for scores, entities in color, generated text with its attention."""

from collections.abc import Mapping
from html import escape
from typing import Any

from pipeline.corpus.readers.base import nested
from pipeline.inference.model import Input, Model
from pipeline.report.html import meter, table
from pipeline.report.numbers import format_number
from pipeline.report.samples import render_samples
from pipeline.tasks.base.sample import Sample, TextSpan

CHOSEN = "✓"


class View:
    """Shows the predictions of a model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def render(self, given: Input, prediction: Mapping[str, Any]) -> str:
        """Return the HTML of a prediction; all texts are escaped. Runs the model for samples."""
        if "error" in prediction:
            return f"<p class='error' role='alert'>{escape(str(prediction['error']))}</p>"
        if "scores" in prediction:
            return _scores(prediction)
        if "spans" in prediction:
            return render_samples([Sample({"entities": self._entities(given, prediction)})])
        if "tags" in prediction:
            spans = [TextSpan(word, tag) for word, tag in prediction["tags"]]
            return render_samples([Sample({"tags": spans})])
        if samples := self._model.samples(given):
            return render_samples(samples)
        texts = {
            name: format_number(value) if isinstance(value, int | float) else str(value)
            for name, value in prediction.items()
        }
        return render_samples([Sample(texts)])

    def _entities(self, given: Input, prediction: Mapping[str, Any]) -> list[TextSpan]:
        """Return the words of a text or row, with the entities as labeled spans."""
        words = given if isinstance(given, str) else nested(dict(given), self._model.columns[0])
        if isinstance(words, str):
            words = self._model.trained.task.parse(words)["tokens"]
        spans: list[TextSpan] = []
        end = 0
        for entity in prediction["spans"]:
            spans += map(TextSpan, words[end : entity["start"]])
            spans.append(TextSpan(entity["text"], entity["label"]))
            end = entity["stop"]
        return [*spans, *map(TextSpan, words[end:])]


def _scores(prediction: Mapping[str, Any]) -> str:
    """Return a table with a bar for each label, the most probable one first."""
    chosen = prediction.get("labels", [prediction.get("label")])
    ranked = sorted(prediction["scores"].items(), key=lambda pair: -pair[1])
    rows = [(name, meter(score), CHOSEN * (name in chosen)) for name, score in ranked]
    html = table(["label", "probability", "predicted"], rows, texts=3)
    if left_out := prediction.get("scores_left_out"):
        html += f"<p class='hint'>{left_out:,} less probable labels are not shown.</p>"
    names = ", ".join(map(str, chosen)) or "no label"
    return f"<p class='answer' dir='auto'>{escape(names)}</p>{html}"
