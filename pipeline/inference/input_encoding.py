"""Checks inputs and encodes them as rows of a model's batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.encoding import EncodedExample
from pipeline.corpus.fields.example import Example
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason
from pipeline.errors import InputError
from pipeline.inference.outputs import row_pipeline
from pipeline.inference.run_input import RawInput
from pipeline.inference.trained import TrainedModel


@dataclass(frozen=True)
class EncodedInputs:
    """The inputs that can be used, and the errors of the others."""

    examples: list[EncodedExample] = field(default_factory=list)
    given: list[Mapping[str, Any]] = field(default_factory=list)
    """Values of the fields of each example, for `Task.predict`."""
    numbers: list[int] = field(default_factory=list)
    """Index of each example among the inputs."""
    errors: dict[int, str] = field(default_factory=dict)
    """Error of each of the other inputs, by index."""


class InputEncoder:
    """Checks and encodes inputs for some of a task's fields. The tokenizers are read once."""

    def __init__(
        self,
        model: TrainedModel,
        fields: Sequence[FieldSpec],
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        """`overrides` are values of the section `corpus`."""
        self.fields = fields
        self._task = model.task
        self._pipeline = row_pipeline(model, fields, overrides)
        self.columns = list(self._pipeline.checker.columns)
        """Columns from which the fields are read."""

    def encode(self, inputs: Sequence[RawInput]) -> EncodedInputs:
        """Encode inputs, in order. An example that has no rows also has an error."""
        result, examples = EncodedInputs(), []
        for number, item in enumerate(inputs):
            try:
                example, values = self._check(item)
            except InputError as error:
                result.errors[number] = str(error)
                continue
            if isinstance(example, SkipReason):
                is_row = item.line is None and item.row.values is None
                result.errors[number] = _describe(example, is_row=is_row)
                continue
            examples.append(example)
            result.given.append(values)
            result.numbers.append(number)
        for number, encoded in zip(result.numbers, self._pipeline.encode(examples), strict=True):
            result.examples.append(encoded)
            if encoded.skip:
                result.errors[number] = _describe(encoded.skip)
        return result

    def _check(self, item: RawInput) -> tuple[Example | SkipReason, Mapping[str, Any]]:
        """Return an input's example, or why there is none, and its values for `Task.predict`.

        Raises InputError for a value that reveals a wrong setting, and for a line that does not
        have all fields.
        """
        checker = self._pipeline.checker
        if item.line is not None:
            parsed = self._task.parse(item.line)
            if missing := [f.name for f in self.fields if f.name not in parsed]:
                raise InputError(
                    f"a text has no field {missing[0]}; give a row with all columns instead"
                )
            raw = [parsed[field.name] for field in self.fields]
            return checker.check_values(item.row, raw, item.file), parsed
        example = checker.check(item.row, item.file)
        if isinstance(example, SkipReason):
            return example, {}
        names = [field.name for field in self.fields]
        return example, dict(zip(names, example.values, strict=True))


def _describe(reason: SkipReason, *, is_row: bool = False) -> str:
    """Return why an input cannot be used. `is_row` is whether it is a row that cannot be read."""
    if reason in (SkipReason.NO_TEXT, SkipReason.NO_WORDS, SkipReason.NO_TOKENS):
        return "the text is empty"
    if reason is SkipReason.NO_FILE:
        return "no such file"
    if reason is SkipReason.NO_IMAGE:
        return "the file is not a readable PNG or JPEG"
    if reason is SkipReason.NO_FEATURES:
        return "the file is not a readable .npy of features"
    return f"the {'row' if is_row else 'text'} has {SKIP_DESCRIPTIONS[reason]}"
