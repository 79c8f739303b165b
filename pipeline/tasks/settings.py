"""Settings of the task."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Section, setting

TaskName = Literal[
    "classification", "multilabel", "tagging", "translation", "language_modeling", "images",
    "captioning",
]  # fmt: skip
IMAGE_TASKS = ("images", "captioning")
"""Tasks that read images."""
Weight = Annotated[float, Field(gt=0)]

KEY_TASKS = {
    "label_smoothing": ("classification", "images", "translation", "captioning"),
    "class_weights": ("classification", "images"),
    "state_reset_prob": ("language_modeling",),
    "max_new_tokens": ("language_modeling",),
    "temperature": ("language_modeling",),
    "seed": ("language_modeling",),
    "beam_size": ("translation", "captioning"),
    "n_best": ("translation", "captioning"),
    "length_penalty": ("translation", "captioning"),
    "max_length_ratio": ("translation",),
    "max_length": ("captioning",),
    "bleu_tokenizer": ("translation", "captioning"),
}
"""Keys that not all tasks have."""


class TaskSettings(Section):
    name: TaskName = setting(
        "classification",
        "what is learnt: a label of each text (classification) or image (images), any number of "
        "labels (multilabel), a tag of each word (tagging), a text of another language "
        "(translation), captions of an image (captioning), what comes next (language_modeling)",
    )
    state_reset_prob: float = setting(
        0.02,
        "language_modeling: share of stretches of training that begin with states of zeros, as "
        "evaluation and any other use of the model do; without them it may forget how",
        ge=0,
        le=1,
    )
    max_new_tokens: int = setting(
        50, "language_modeling: tokens that prediction goes on with", ge=1, may_change=True
    )
    temperature: float = setting(
        0.8,
        "language_modeling: how freely it draws them; 0: always the likeliest",
        ge=0,
        le=1000,
        may_change=True,
    )
    seed: int = setting(0, "language_modeling: of these draws", ge=0, lt=2**31, may_change=True)
    label_smoothing: float = setting(
        0.0,
        "classification, images, translation, captioning: share of the weight of each row or token "
        "that all labels or tokens have alike",
        ge=0,
        lt=1,
    )
    beam_size: int = setting(
        4,
        "translation, captioning: hypotheses that are followed; 1: greedy",
        ge=1,
        le=100,
        may_change=True,
    )
    n_best: int = setting(
        1, "translation, captioning: how many prediction tells", ge=1, may_change=True
    )
    length_penalty: float = setting(
        0.6,
        "translation, captioning: alpha of GNMT, by which long ones are favoured; 0: not at all",
        ge=0,
        may_change=True,
    )
    max_length_ratio: float = setting(
        3.0,
        "translation: tokens that one may have for each of its source's, and ten more",
        gt=0,
        may_change=True,
    )
    max_length: int = setting(
        50, "captioning: tokens that a caption may have", ge=1, may_change=True
    )
    bleu_tokenizer: Literal["13a", "intl", "char", "zh", "none"] = setting(
        "13a",
        "translation, captioning: what BLEU counts as words, by sacrebleu's names",
        may_change=True,
    )
    class_weights: Literal["none", "balanced"] | dict[str, Weight] = setting(
        "none",
        "classification, images: what the loss of a row of each label counts; balanced: rare ones "
        "more, so that all labels together count alike",
    )
