"""A text and a number."""

from pipeline.corpus.field_spec import FieldSpec
from pipeline.inspection import roles
from pipeline.inspection.form import Form, Proposal
from pipeline.inspection.keys import Key
from pipeline.inspection.table import Table
from pipeline.inspection.text_keys import columns_of, sentence, text_alternatives, text_key


class RegressionForm(Form):
    """A column of texts and a column of numbers that measure something."""

    task = "regression"

    @classmethod
    def propose(cls, table: Table) -> Proposal | None:
        texts, labels = roles.text_columns(table), roles.labels(table)
        if not texts or not labels or not labels[0].is_numeric or len(table.label) > 1:
            return None
        number = labels[0]
        low, high = min(number.numbers), max(number.numbers)
        few = roles.is_number_label(number)
        others = [f"corpus.label={other.name}" for other in labels[1:4] if other.is_numeric]
        return Proposal(
            cls.task,
            0.5 if few else 0.72,
            f"{sentence(texts)}, and numbers from {low:g} to {high:g} in {number.name}",
            text_key(texts) | {"label": Key(number.name, f"numbers from {low:g} to {high:g}")},
            (
                FieldSpec("tokens", columns_of(texts), "text"),
                FieldSpec("number", number.name, "number"),
            ),
            (*text_alternatives(table, texts), *others),
            is_sure=roles.is_sure(labels, table),
        )
