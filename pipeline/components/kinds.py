"""The kinds of components, and the short names of the components of each kind."""

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

ENTRY_POINTS = "headrace.components"
"""Group of the entry points of installed packages; their names are KIND.NAME."""


@dataclass(frozen=True)
class Kind:
    """A kind of component."""

    name: str
    key: str
    """The key whose value chooses a component, or is a list of them; empty: other components name
    it."""
    package: str
    """The package of the built-in components, one per module."""
    base: str
    """The base class, as module:Class."""

    @property
    def section(self) -> str:
        """The section that the key is in."""
        return self.key.partition(".")[0]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("task", "task.name", "pipeline.tasks", "pipeline.tasks.base.task:Task"),
        Kind("metric", "task.metrics", "pipeline.tasks.metrics", "pipeline.tasks.base.metric:Metric"),
        Kind("reader", "corpus.format", "pipeline.corpus.readers.formats", "pipeline.corpus.readers.base:Reader"),
        Kind("form", "", "pipeline.inspection.forms", "pipeline.inspection.form:Form"),
        Kind("field", "", "pipeline.corpus.fields.kinds", "pipeline.corpus.fields.base:FieldKind"),
        Kind("cell", "model.cell", "pipeline.models.cells", "pipeline.models.cell:Cell"),
        Kind("encoder", "model.encoder", "pipeline.models.encoders", "pipeline.models.encoder:Encoder"),
        Kind("pooling", "model.pooling", "pipeline.models.poolings", "pipeline.models.pooling:Pooling"),
        Kind("attention", "model.attention", "pipeline.models.attentions", "pipeline.models.attention:Attention"),
        Kind("head", "model.head", "pipeline.models.heads", "pipeline.models.head:Head"),
        Kind("optimizer", "train.optimizer", "pipeline.optim.optimizers", "pipeline.optim.base:Algorithm"),
        Kind("schedule", "train.schedule", "pipeline.optim.schedules", "pipeline.optim.base:Schedule"),
        Kind("callback", "train.callbacks", "pipeline.training.callbacks", "pipeline.training.callback:Callback"),
        Kind("tracker", "track.trackers", "pipeline.tracking.trackers", "pipeline.tracking.base:Tracker"),
    )
}  # fmt: skip


def names(kind: str) -> list[str]:
    """Return the short names of a kind's components: built-in ones and entry points."""
    return sorted({*built_in(kind), *entry_points_of(kind)})


@cache
def built_in(kind: str) -> frozenset[str]:
    package = importlib.import_module(KINDS[kind].package)
    return frozenset(info.name for info in pkgutil.iter_modules(package.__path__) if not info.ispkg)


@cache
def entry_points_of(kind: str) -> dict[str, EntryPoint]:
    prefix = f"{kind}."
    return {p.name.removeprefix(prefix): p for p in _entry_points() if p.name.startswith(prefix)}


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    """Return the entry points of all kinds. Each search reads a file per installed package."""
    return tuple(entry_points(group=ENTRY_POINTS))
