"""Task settings."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Section, setting

TaskName = Literal[
    "classification", "multilabel", "tagging", "translation", "language_modeling", "images",
    "captioning",
]  # fmt: skip
IMAGE_TASKS = ("images", "captioning")
"""Tasks whose input is an image."""
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
"""Tasks that each key applies to; a key that is not listed applies to all."""


class TaskSettings(Section):
    name: TaskName = setting(
        "classification",
        "what to learn: one label per text (classification) or per image (images), any number of "
        "labels per text (multilabel), a tag per word (tagging), a text in another language "
        "(translation), captions of an image (captioning), the next token (language_modeling)",
    )
    state_reset_prob: float = setting(
        0.02,
        "language_modeling: probability that a training segment starts from a zero state, as "
        "evaluation and prediction do; at 0 the model may forget how to start from zeros",
        ge=0,
        le=1,
    )
    max_new_tokens: int = setting(
        50, "language_modeling: maximum tokens to generate per text", ge=1, may_change=True
    )
    temperature: float = setting(
        0.8,
        "language_modeling: sampling temperature; 0: always take the most likely token",
        ge=0,
        le=1000,
        may_change=True,
    )
    seed: int = setting(0, "language_modeling: sampling seed", ge=0, lt=2**31, may_change=True)
    label_smoothing: float = setting(
        0.0,
        "classification, images, translation, captioning: share of the target probability spread "
        "evenly over all labels or tokens",
        ge=0,
        lt=1,
    )
    beam_size: int = setting(
        4,
        "translation, captioning: number of hypotheses in beam search; 1: greedy",
        ge=1,
        le=100,
        may_change=True,
    )
    n_best: int = setting(
        1, "translation, captioning: number of hypotheses to return", ge=1, may_change=True
    )
    length_penalty: float = setting(
        0.6,
        "translation, captioning: alpha of GNMT's length penalty; larger favors longer texts",
        ge=0,
        may_change=True,
    )
    max_length_ratio: float = setting(
        3.0,
        "translation: maximum target tokens per source token, plus 10",
        gt=0,
        may_change=True,
    )
    max_length: int = setting(50, "captioning: maximum tokens of a caption", ge=1, may_change=True)
    bleu_tokenizer: Literal["13a", "intl", "char", "zh", "none"] = setting(
        "13a",
        "translation, captioning: sacrebleu's tokenizer for BLEU",
        may_change=True,
    )
    class_weights: Literal["none", "balanced"] | dict[str, Weight] = setting(
        "none",
        "classification, images: loss weight per label; balanced: inverse to the label's "
        "frequency, so that all labels contribute equally",
    )
