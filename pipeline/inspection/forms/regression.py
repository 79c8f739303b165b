"""A text and a number."""

from pipeline.corpus.field_spec import FieldSpec
from pipeline.inspection import roles
from pipeline.inspection.form import Form, Proposal
from pipeline.inspection.keys import Key
from pipeline.inspection.table import Table
from pipeline.inspection.text_keys import columns_of, describe_texts, text_alternatives, text_key


class RegressionForm(Form):
    """A column of texts and a column of numbers that measure something."""

    task = "regression"

    @classmethod
    def propose(cls, table: Table) -> Proposal | None:
        texts, labels = roles.text_columns(table), roles.labels(table)
        numbers = roles.numbers(table)
        if not texts or not numbers or len(table.label) > 1:
            return None
        number = numbers[0]
        low, high = min(number.numbers), max(number.numbers)
        few = roles.is_number_label(number)
        others = [f"corpus.label={other.name}" for other in numbers[1:4]]
        is_best = bool(labels) and labels[0] is number
        if not is_best:
            others.append("task.name=language_modeling to learn the texts alone")
        fit = 0.72 if is_best else 0.2 if labels else 0.35
        return Proposal(
            cls.task,
            min(fit, 0.5) if few else fit,
            f"{describe_texts(texts)}, and numbers from {low:g} to {high:g} in {number.name}",
            text_key(texts) | {"label": Key(number.name, f"numbers from {low:g} to {high:g}")},
            (
                FieldSpec("tokens", columns_of(texts), "text"),
                FieldSpec("number", number.name, "number"),
            ),
            (*text_alternatives(table, texts), *others),
            is_sure=is_best and roles.is_sure(labels, table),
        )
