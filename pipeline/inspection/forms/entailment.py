"""Two texts and one label."""

from pipeline.corpus.field_spec import FieldSpec
from pipeline.inspection import roles
from pipeline.inspection.form import Form, Proposal
from pipeline.inspection.keys import Key
from pipeline.inspection.pairs import PREMISES, find_pair
from pipeline.inspection.table import Table
from pipeline.inspection.text_keys import label_key


class EntailmentForm(Form):
    """Two columns of texts, such as a premise and a hypothesis, and a column of labels."""

    task = "entailment"

    @classmethod
    def propose(cls, table: Table) -> Proposal | None:
        chosen = [table.columns[name] for name in table.text]
        pair = (chosen[0], chosen[1]) if len(chosen) == 2 else find_pair(table, PREMISES)
        if not pair or (chosen and len(chosen) != 2):
            return None
        used = {column.name for column in pair}
        labels = [column for column in roles.labels(table) if column.name not in used]
        if len(labels) != 1 and (not labels or table.label):
            return None
        label = labels[0]
        if label.is_numeric and not roles.is_number_label(label):
            return None
        first, second = (column.name for column in pair)
        return Proposal(
            cls.task,
            0.4 if chosen else 0.8,
            f"pairs of texts in {first} and {second}, and {label.distinct} different labels in "
            f"{label.name}",
            {
                "text": Key(first, "the first text of a pair"),
                "text_pair": Key(second, "the second text of a pair"),
                **label_key(label),
            },
            (
                FieldSpec("tokens", first, "text"),
                FieldSpec("pair", second, "text"),
                FieldSpec("label", label.name, "label"),
            ),
            (f"task.name=classification corpus.text=[{first}, {second}] joins the two",),
        )
