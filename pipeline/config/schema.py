"""The sections of a config, each with the keys of the components that the config chooses."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import create_model

from pipeline import components
from pipeline.components import Source
from pipeline.corpus.settings import CorpusSettings
from pipeline.models.settings import ModelSettings
from pipeline.run.settings import RunSettings
from pipeline.settings import Section
from pipeline.stream.settings import StreamSettings
from pipeline.tasks.base.settings import TaskSettings
from pipeline.tracking.settings import TrackSettings
from pipeline.training.settings import TrainSettings


class Config(Section):
    """All settings of a run."""

    run: RunSettings
    task: TaskSettings
    corpus: CorpusSettings
    stream: StreamSettings
    model: ModelSettings
    train: TrainSettings
    track: TrackSettings


def compose(values: Mapping[str, Any]) -> type[Config]:
    """Return the class of a config whose components `values` choose.

    Raises ConfigError with a line for each component that cannot be loaded.
    """
    composed = components.compose(section_classes(Config), values)
    changed = {
        n: section for n, section in section_classes(Config).items() if composed[n] is not section
    }
    return _with_sections(tuple((name, composed[name]) for name in changed))


def component_references(values: Mapping[str, Any]) -> list[str]:
    """Return the values that name a component which is not built in."""
    found = []
    for kind in components.KINDS.values():
        own = values.get(kind.section)
        value = own.get(kind.key.rpartition(".")[2]) if isinstance(own, dict) else None
        listed = value if isinstance(value, list) else [value]
        plugins = components.entry_points_of(kind.name)
        names = [name for name in listed if isinstance(name, str)]
        found += [name for name in names if name in plugins or (":" in name and not _ours(name))]
    return found


def _ours(reference: str) -> bool:
    """Return whether a reference names a class of this package, not a file."""
    module = reference.partition(":")[0]
    names = module.split(".")
    return names[0] == "pipeline" and names[-1] != "py" and all(map(str.isidentifier, names))


def component_sources(config: Config) -> list[Source]:
    """Return the sources of the chosen components that are not built in."""
    choices = (choice for choice, _ in components.chosen(section_values(config)))
    sources = (components.source(*choice) for choice in choices)
    return [source for source in sources if source is not None]


def section_values(config: Config) -> dict[str, Section]:
    """Return the sections of a config by name."""
    return dict(config)


def section_classes(config: type[Config]) -> dict[str, type[Section]]:
    """Return the classes of a config's sections by name."""
    classes: dict[str, Any] = {n: field.annotation for n, field in config.model_fields.items()}
    return classes


@cache
def _with_sections(sections: tuple[tuple[str, type[Section]], ...]) -> type[Config]:
    fields: dict[str, Any] = {name: (section, ...) for name, section in sections}
    return create_model("Config", __base__=Config, **fields) if sections else Config
