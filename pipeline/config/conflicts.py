"""What is wrong between settings that are each right: one line a mistake."""

from collections.abc import Iterator
from math import prod

from pipeline.config.schema import Config
from pipeline.corpus import settings as corpora
from pipeline.corpus.fields import images
from pipeline.corpus.settings import CorpusSettings
from pipeline.models import settings as models
from pipeline.models.settings import KEY_CELLS, ModelSettings
from pipeline.stream.settings import StreamSettings
from pipeline.tasks import settings as tasks


def conflicts(config: Config) -> Iterator[str]:
    """What is wrong between settings that are each right."""
    corpus, stream = config.corpus, config.stream
    budget = stream.token_budget // stream.accumulation_steps
    if stream.batch_rows % stream.accumulation_steps:
        yield (
            f"stream.batch_rows={stream.batch_rows}: is no multiple of "
            f"stream.accumulation_steps={stream.accumulation_steps}, whose batches share the rows of an "
            f"update; set such a one"
        )
    if not stream.batch_rows and budget < corpus.max_tokens:
        yield (
            f"stream.token_budget={stream.token_budget}: {stream.accumulation_steps} batch(es) an "
            f"update leave {budget} tokens for a batch, fewer than the longest row has "
            f"(corpus.max_tokens={corpus.max_tokens}); raise the one or lower the other"
        )
    yield from _model_conflicts(config.model)
    yield from _task_conflicts(config)
    if stream.unprepared_rows:
        yield from _direct_conflicts(corpus, stream)
    if corpus.overflow != "truncate" and corpus.truncation_side != "start":
        yield (
            f"corpus.truncation_side={corpus.truncation_side!r}: says what is kept of a truncated text, but "
            f"corpus.overflow={corpus.overflow} truncates none; set corpus.truncation_side=start, or "
            f"corpus.overflow=truncate"
        )
    first = "image" if config.task.name in tasks.IMAGE_TASKS else "text"
    labeled = config.task.name in corpora.LABELED_TASKS
    if labeled and getattr(corpus, first) == corpus.label:
        label = f"corpus.label={corpus.label!r}"
        yield f"{label}: the same column as corpus.{first}; name the label's own"
    if corpus.format and isinstance(corpus.input, dict):
        yield (
            f"corpus.format={corpus.format}: files that lie side by side, as in corpus.input, are "
            f"idx files or texts of a value a line, which they say themselves; leave it out"
        )
    if len(set(corpus.label_names)) < len(corpus.label_names):
        yield f"corpus.label_names={corpus.label_names!r}: names one label twice"


def _model_conflicts(model: ModelSettings) -> Iterator[str]:
    for key, cells in KEY_CELLS.items():
        value = getattr(model, key)
        if model.cell not in cells and value != type(model).model_fields[key].default:
            yield (
                f"model.{key}={value}: is of model.cell={' or '.join(cells)}, but the cell is "
                f"{model.cell}, which would pass it over; leave it out or change the cell"
            )
    if model.independent_directions and not model.bidirectional:
        yield "model.independent_directions=true: two stacks of two directions; set model.bidirectional=true too"
    if model.reverse and model.bidirectional:
        yield (
            "model.reverse=true: says where one direction begins, but model.bidirectional=true "
            "reads in both; leave one of them out"
        )
    for key in ("hidden", "characters") if model.cell == "goru" else ():
        units = getattr(model, key)
        if units == 1:
            yield f"model.{key}=1: goru turns pairs of units; set 2 or more"
        if not model.goru_capacity and units & (units - 1):
            low = 1 << (units.bit_length() - 1)
            yield (
                f"model.{key}={units}: the FFT style of goru pairs units at distances that are "
                f"powers of two; set model.{key}={low} or {2 * low}, or an even model.goru_capacity"
            )
    if model.goru_capacity % 2:
        yield (
            f"model.goru_capacity={model.goru_capacity}: layers of rotations come in pairs, as "
            f"one alone leaves each unit with one neighbor; set {model.goru_capacity + 1}"
        )
    if model.recurrent_init == "identity" and model.activation == "tanh":
        yield (
            "model.recurrent_init=identity: an identity that tanh bounds forgets at once; set "
            "model.activation=relu with it"
        )
    if model.cell == "grid_lstm" and model.skip != "none":
        yield (
            f"model.skip={model.skip}: along depth grid_lstm has a memory of its own, which passes "
            f"each layer by; leave it out"
        )
    if model.cell == "grid_lstm" and model.grid_dimensions == 3:
        for key in models.IGNORED_BY_IMAGE_GRID:
            value = getattr(model, key)
            if value != type(model).model_fields[key].default:
                yield (
                    f"model.{key}={value}: a grid of three dimensions would pass it over, as it "
                    f"goes over the plane of an image from another corner in each layer; leave it "
                    f"out or set model.grid_dimensions=2"
                )
    if model.cell == "grid_lstm" and model.grid_dimensions == 1 and model.zoneout:
        yield (
            f"model.zoneout={model.zoneout}: keeps states along time, which a grid of depth alone "
            f"has not; leave it out or set model.grid_dimensions=2"
        )


def _task_conflicts(config: Config) -> Iterator[str]:
    task = config.task.name
    for name, section, of_task in (
        ("corpus", config.corpus, corpora.KEY_TASKS),
        ("model", config.model, models.KEY_TASKS),
        ("task", config.task, tasks.KEY_TASKS),
    ):
        for key, of in of_task.items():
            value = getattr(section, key)
            if task not in of and value != type(section).model_fields[key].default:
                yield (
                    f"{name}.{key}={value}: is of task.name={' or '.join(of)}, but the task is "
                    f"{task}, which would pass it over; leave it out or change the task"
                )
    for key in ("layer_decay", "unfreeze"):
        value = getattr(config.train, key)
        if value == type(config.train).model_fields[key].default:
            continue
        if task not in models.KEY_TASKS["init_from"]:
            yield (
                f"train.{key}={value}: is of task.name={' or '.join(models.KEY_TASKS['init_from'])}, "
                f"whose models are one embedding and one stack of layers, and the task is {task}; "
                f"leave it out"
            )
        elif config.model.cell == "grid_lstm":
            yield (
                f"train.{key}={value}: tells layers apart, and those of grid_lstm may share their "
                f"weights; leave it out or change the cell"
            )
    if config.model.init_from and config.model.word_vectors:
        yield (
            f"model.word_vectors={config.model.word_vectors}: model.init_from has an embedding already; "
            f"leave one of them out"
        )
    if task == "language_modeling":
        yield from _contiguous_conflicts(config)
    if task in tasks.IMAGE_TASKS:
        yield from _image_conflicts(config)
    its = {"images": "images", "captions": "captioning"}.get(config.corpus.format, task)
    if task != its:
        yield (
            f"corpus.format={config.corpus.format}: is of task.name={its}, but the task is {task}; "
            f"change the task, or leave it out"
        )
    if task != "images" and config.model.grid_dimensions == 3:
        yield (
            f"model.grid_dimensions=3: goes over images, and the task is {task}; set 2, or "
            f"task.name=images"
        )
    if task in ("translation", "captioning"):
        yield from _writing_conflicts(config)
    if task == "translation":
        yield from _translation_conflicts(config)
    if task == "captioning":
        yield from _captioning_conflicts(config)
    if task != "classification" and config.stream.unprepared_rows:
        yield (
            f"stream.unprepared_rows={config.stream.unprepared_rows}: only texts for classification are trained on "
            f"without preparing, and the task is {task}; set stream.unprepared_rows=0"
        )


def _contiguous_conflicts(config: Config) -> Iterator[str]:
    """What a task cannot have that carries its states from one update to the next."""
    corpus, stream, model = config.corpus, config.stream, config.model
    mistakes = {
        "stream.batch_rows=0: says in how many lanes the text is read; set such as 32": (
            not stream.batch_rows
        ),
        f"stream.accumulation_steps={stream.accumulation_steps}: states are carried from update to update, "
        "each of one batch; set 1": stream.accumulation_steps != 1,
        f"stream.mix={stream.mix}: one text after the other is read; add to corpus.input": (
            bool(stream.mix)
        ),
        f"stream.repeat={stream.repeat}: an epoch is one pass over the text; set 1": (
            stream.repeat != 1
        ),
        f"corpus.overflow={corpus.overflow}: would leave out what is long; set split": (
            corpus.overflow != "split"
        ),
        "model.bidirectional=true: would see the token that it is to predict; set false, or "
        "model.independent_directions=true for a language model of each direction": (
            model.bidirectional and not model.independent_directions
        ),
        "corpus.drop_duplicates=true: takes what is said again out of a running text; set false": (
            corpus.drop_duplicates
        ),
        f"corpus.max_tokens={corpus.max_tokens}: the end of a text takes one more than a row can "
        "have; set 65534": corpus.max_tokens > 65534,
        "model.softmax=adaptive: holds tokens of high ids for rare, which single bytes are not; "
        "set full": model.softmax == "adaptive" and corpus.level == "byte",
        f"model.hidden={model.hidden}: adaptive softmax scores rare tokens in a sixteenth of it; "
        "set 64 or more": model.softmax == "adaptive" and model.hidden < 64,
        "model.cell=grid_lstm: carries no state; set another cell": model.cell == "grid_lstm",
        "model.tie_embeddings=true: adaptive softmax has weights of its own; set one of both": (
            model.tie_embeddings and model.softmax == "adaptive"
        ),
    }
    yield from (line for line, is_one in mistakes.items() if is_one)


def _writing_conflicts(config: Config) -> Iterator[str]:
    """What a task cannot have that writes texts of its own."""
    corpus, stream, task = config.corpus, config.stream, config.task
    budget = stream.token_budget // stream.accumulation_steps
    read = "image" if task.name in tasks.IMAGE_TASKS else "text"
    mistakes = {
        f"corpus.target={corpus.target!r}: the same column as corpus.{read}; name the target's "
        "own": corpus.target == getattr(corpus, read),
        f"corpus.max_target_tokens={corpus.max_target_tokens}: a target may have more tokens than "
        f"stream.token_budget={stream.token_budget} has room for in a batch ({budget}); lower the "
        "one or raise the other": not stream.batch_rows and budget < corpus.max_target_tokens,
        f"task.n_best={task.n_best}: no more are found than are followed, task.beam_size={task.beam_size}; "
        "lower the one or raise the other": task.n_best > task.beam_size,
        "model.cell=grid_lstm: has no decoder; set another cell": config.model.cell == "grid_lstm",
    }
    yield from (line for line, is_one in mistakes.items() if is_one)


def _captioning_conflicts(config: Config) -> Iterator[str]:
    corpus, model = config.corpus, config.model
    convolutions = type(model).model_fields["convolutions"].default
    if corpus.features and model.convolutions != convolutions:
        yield (
            f"model.convolutions={model.convolutions}: go over pixels, but corpus.features="
            f"{corpus.features} says that features are given; leave one of them out"
        )


def _translation_conflicts(config: Config) -> Iterator[str]:
    corpus = config.corpus
    mistakes = {
        f"corpus.overflow={corpus.overflow}: a part of a text is not what the whole target "
        "says; set drop": corpus.overflow != "drop",
        "corpus.lowercase=true: translations would be written in small letters and judged by "
        "references in small letters; set false": corpus.lowercase,
        "corpus.level=word: a reference would lose the words that are not known, and BLEU be of "
        "what is left; set subword": corpus.level == "word",
        f"corpus.shared_vocab=false: means a vocabulary of each language, but corpus.tokenizer="
        f"{corpus.tokenizer!r} is one of both; set true, or leave the tokenizer out": (
            not corpus.shared_vocab and bool(corpus.tokenizer)
        ),
    }
    yield from (line for line, is_one in mistakes.items() if is_one)


def _image_conflicts(config: Config) -> Iterator[str]:
    """What is wrong with images and their steps."""
    corpus, model, task = config.corpus, config.model, config.task.name
    of_texts = corpora.TEXT_INPUT_KEYS + (corpora.TEXT_KEYS if task == "images" else ())
    for key in of_texts:
        value = getattr(corpus, key)
        if value != type(corpus).model_fields[key].default:
            yield (
                f"corpus.{key}={value!r}: is of texts, but the task is {task}, which would pass it "
                f"over; leave it out or change the task"
            )
    if corpus.format in ("conll", "conllu"):
        yield f"corpus.format={corpus.format}: is of words, but the task is {task}; leave it out"
    if corpus.features:
        for key in ("image_size", "channels"):
            value = getattr(corpus, key)
            if value != type(corpus).model_fields[key].default:
                yield (
                    f"corpus.{key}={value!r}: is of pixels, but corpus.features={corpus.features} "
                    f"says that features are given; leave one of them out"
                )
        return
    if corpus.step != "patch" and corpus.patch != type(corpus).model_fields["patch"].default:
        yield (
            f"corpus.patch={corpus.patch}: is of corpus.step=patch, but a step is a {corpus.step}; "
            f"leave it out or set corpus.step=patch"
        )
    if model.grid_dimensions == 3 and corpus.step == "row":
        yield (
            "model.grid_dimensions=3: goes down and across an image, but a step is a whole row of "
            "it; set corpus.step=patch or pixel"
        )
    if not corpus.image_size:
        yield (
            f"corpus.image_size=[]: says nothing, but the task is {task}, whose steps it counts; "
            f"set rows and columns of pixels, such as [28, 28]"
        )
        return
    if corpus.step == "patch" and any(size % corpus.patch for size in corpus.image_size):
        yield (
            f"corpus.patch={corpus.patch}: patches of {corpus.patch} x {corpus.patch} pixels do "
            f"not cover corpus.image_size={corpus.image_size}; set a divisor of both"
        )
        return
    if (steps := prod(images.plane(corpus))) > corpus.max_tokens:
        yield (
            f"corpus.max_tokens={corpus.max_tokens}: an image has {steps} steps (image_size="
            f"{corpus.image_size}, step={corpus.step}), none of which is cut off; set "
            + (str(steps) if steps < 1 << 16 else "a smaller corpus.image_size, or another step")
        )


def _direct_conflicts(corpus: CorpusSettings, stream: StreamSettings) -> Iterator[str]:
    """What training without preparing lacks, or cannot do."""
    mistakes = {
        "corpus.tokenizer='': none is trained; give a tokenizer.json": not corpus.tokenizer,
        "corpus.label_names=[]: labels are not looked for; name them": not corpus.label_names,
        f"corpus.validation={corpus.validation}: no share of a file is held out; name files": (
            isinstance(corpus.validation, float)
        ),
        "corpus.input, corpus.validation: no files that lie side by side are read": (
            isinstance(corpus.input, dict) or isinstance(corpus.validation, dict)
        ),
        "corpus.overflow=split: no text is split; set truncate or drop": (
            corpus.overflow == "split"
        ),
        "stream.batch_rows=0: no plan fills a budget; say how many rows make an update": (
            not stream.batch_rows
        ),
        f"stream.repeat={stream.repeat}: stream.unprepared_rows says how long an epoch is; set 1": (
            stream.repeat != 1
        ),
        f"stream.mix={stream.mix}: only prepared datasets are mixed; add to corpus.input": (
            bool(stream.mix)
        ),
    }
    for line, is_one in mistakes.items():
        if is_one:
            yield f"{line}, or set stream.unprepared_rows=0 to prepare first"
