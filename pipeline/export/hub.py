"""Exports a model with a model card, for the Hugging Face Hub.

Model cards are described at https://huggingface.co/docs/hub/model-cards.
"""

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from pipeline.config import as_yaml, changed_settings, flatten
from pipeline.corpus.readers.inputs import input_patterns
from pipeline.export.folder import export_folder, facts_of
from pipeline.inference.trained import TrainedModel
from pipeline.run import exported
from pipeline.run.exported import ExportedModel
from pipeline.run.folder import RunFolder
from pipeline.run.summary import Summary, read_summary
from pipeline.storage.redaction import redacted, redacted_settings
from pipeline.wording import shorten

CARD = "README.md"
HUB_TASKS = {
    "classification": "text-classification",
    "multilabel": "text-classification",
    "entailment": "text-classification",
    "regression": "text-classification",
    "tagging": "token-classification",
    "language_modeling": "text-generation",
    "translation": "translation",
    "images": "image-classification",
    "captioning": "image-to-text",
}
"""Names of the tasks on the Hub."""
HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "micro_f1": "f1", "f1": "f1",
               "bleu": "bleu", "chrf": "chrf", "perplexity": "perplexity",
               "mean_absolute_error": "mae"}  # fmt: skip
"""Names of metrics on the Hub."""
MAX_LABELS = 50
"""Maximum number of labels in a model card."""
MAX_LABEL_CHARACTERS = 60
MAX_VALUE_CHARACTERS = 200
PATHS = (
    "corpus.input", "corpus.validation", "corpus.test", "corpus.root", "corpus.image_root",
    "corpus.tokenizer", "stream.mix", "stream.cache", "model.init_from", "model.word_vectors",
)  # fmt: skip
"""Keys whose values are paths on the machine of the run."""


def export_hub(model: TrainedModel, target: Path) -> None:
    """Write a folder that can be uploaded to the Hub and read by `pipeline.load`.

    Raises RunError if `target` exists and is not an exported model, or if it cannot be written.
    """
    export_folder(model, target, {CARD: model_card(model)})


def model_card(model: TrainedModel) -> str:
    """Return the model card in Markdown, with its metadata in YAML."""
    facts = facts_of(model)
    summary = read_summary(RunFolder(model.files.folder))
    name = facts.name or model.files.folder.name
    parts = [
        f"---\n{_metadata(model, facts, name).to_yaml()}\n---",
        f"# {name}",
        _introduction(model),
        "## Use",
        _use(name, model),
        "## Data",
        "\n".join(_data(model)),
        "## Results",
        "\n".join(_results(facts, summary)),
        "## Training",
        "\n".join(_training(model, facts)),
        "## Limits",
        "\n".join(_limits(model)),
    ]
    text = "\n\n".join(parts) + "\n"
    for reference, other in exported.portable_references(model.files.config.parent).items():
        text = text.replace(reference, other)
    return text


def _metadata(model: TrainedModel, facts: ExportedModel, name: str) -> ModelCardData:
    task = HUB_TASKS.get(model.config.task.name)
    results = [
        EvalResult(
            task_type=task or "other",
            dataset_type="custom",
            dataset_name=f"held-out rows of {', '.join(_inputs(model)) or 'the corpus'}",
            dataset_split=split,
            metric_type=HUB_METRICS[metric],
            metric_name=metric,
            metric_value=round(value, 6),
        )
        for split, metric, value in _metrics(facts)
        if metric in HUB_METRICS
    ]
    cell = getattr(model.config.model, "cell", None)
    return ModelCardData(
        library_name="headrace",
        pipeline_tag=task,
        tags=["headrace", "recurrent-neural-network", *([cell] if cell else [])],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _introduction(model: TrainedModel) -> str:
    config = model.config
    cell = getattr(config.model, "cell", "recurrent")
    layers, hidden = getattr(config.model, "layers", 0), getattr(config.model, "hidden", 0)
    size = f" with {layers} layers of {hidden} hidden units" if layers and hidden else ""
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    return (
        f"A model for {config.task.name.replace('_', ' ')}: a {cell} network{size} and "
        f"{parameters:,} parameters, trained with [Headrace](https://pypi.org/project/headrace/)."
    )


def _use(name: str, model: TrainedModel) -> str:
    trust = ", trust_code=True" if (model.files.config.parent / "code.json").is_file() else ""
    note = (
        "\n\nThe model uses code that is not part of Headrace; it is in `code/`. "
        "`trust_code=True` runs this code: read it first."
        if trust
        else ""
    )
    example = "..." if model.reads_images else model.task.example(model.config.corpus).strip("'")
    return (
        "```python\n"
        "import pipeline  # pip install 'headrace[predict]'\n\n"
        f'model = pipeline.load("{name}"{trust})  # the path of this folder\n'
        f"model.predict([{example!r}])\n"
        "```\n\n"
        f"`headrace predict --run {name}` predicts for files, and `headrace serve --run {name}` "
        f"serves the model over HTTP.{note}"
    )


def _data(model: TrainedModel) -> Iterator[str]:
    corpus, manifest = model.config.corpus, model.manifest
    if inputs := _inputs(model):
        yield f"- Input: {', '.join(f'`{name}`' for name in inputs)}"
    fields = {field.name: field.column for field in manifest.fields}
    yield "- Columns: " + ", ".join(f"`{column}` ({name})" for name, column in fields.items())
    splits = ", ".join(f"{name} {split.rows:,}" for name, split in manifest.splits.items())
    if splits:
        yield f"- Rows: {splits}"
    labels = list(model.task.labels)
    if labels:
        shown = [f"`{shorten(label, MAX_LABEL_CHARACTERS)}`" for label in labels[:MAX_LABELS]]
        more = f" and {len(labels) - MAX_LABELS:,} more" if len(labels) > MAX_LABELS else ""
        yield f"- Labels: {', '.join(shown)}{more}"
    if max_tokens := getattr(corpus, "max_tokens", 0):
        yield f"- Tokens per row: at most {max_tokens:,}"


def _results(facts: ExportedModel, summary: Summary | None) -> Iterator[str]:
    metrics = list(_metrics(facts))
    if not metrics:
        yield "This checkpoint was not evaluated."
        return
    yield "| split | metric | value | 95 % interval |"
    yield "|---|---|---|---|"
    intervals = summary.intervals if summary else {}
    for split, metric, value in metrics:
        bounds = intervals.get(metric) if split == "test" else None
        interval = f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else ""
        yield f"| {split} | {metric} | {value:.4f} | {interval} |"
    if summary and summary.baseline:
        found = summary.baseline
        yield ""
        yield (
            f"Baseline: {found['metric']} {found['value']:.4f} by always guessing {found['guess']}."
        )
    if any(split == "validation" for split, _, _ in metrics):
        yield ""
        yield (
            "The checkpoint was chosen by the validation split, so the metrics of this split are "
            "biased upwards."
        )


def _training(model: TrainedModel, facts: ExportedModel) -> Iterator[str]:
    yield f"{facts.step:,} updates in {facts.precision}. Settings that differ from the defaults:"
    yield ""
    names = exported.portable_references(model.files.config.parent)
    values = exported.renamed(redacted_settings(flatten(model.config)), names)
    shown = [
        f"- `{key}`: `{shorten(as_yaml(values[key]), MAX_VALUE_CHARACTERS)}`"
        for key in changed_settings(model.config)
        if key not in PATHS
    ]
    yield from shown or ["- none"]


def _limits(model: TrainedModel) -> Iterator[str]:
    if model.task.labels:
        yield "- Only the labels above are predicted, even if none of them fits the input."
    if max_tokens := getattr(model.config.corpus, "max_tokens", 0):
        overflow = getattr(model.config.corpus, "overflow", "")
        yield f"- Texts of more than {max_tokens:,} tokens: `corpus.overflow={overflow}`."
    yield "- The model knows only the languages and kinds of input in its training data."
    yield "- Its predictions can reproduce biases of the training data."


def _metrics(facts: ExportedModel) -> Iterator[tuple[str, str, float]]:
    """Yield the split, the name and the value of each metric."""
    for key, value in facts.metrics.items():
        split, _, name = key.partition("/")
        if name not in ("examples", "loss"):
            yield split, name, value


def _inputs(model: TrainedModel) -> list[str]:
    """Return the names of the input files, without their folders."""
    patterns = redacted(input_patterns(model.config.corpus.input))
    return [pattern.rstrip("/").rpartition("/")[2] for pattern in patterns]
