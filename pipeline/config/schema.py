"""The sections of a config, each with the keys of the components that the config chooses."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import create_model

from pipeline import components
from pipeline.components import Source
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import ConfigError
from pipeline.models.settings import ModelSettings
from pipeline.run.settings import RunSettings
from pipeline.settings import Section, kind_of
from pipeline.stream.settings import StreamSettings
from pipeline.tasks.settings import TaskSettings
from pipeline.tracking.settings import TrackSettings
from pipeline.train.settings import TrainSettings


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
    sections: list[tuple[str, type[Section]]] = []
    mistakes = []
    for name, section in section_classes(Config).items():
        own = values.get(name)
        try:
            composed = components.compose(section, own if isinstance(own, dict) else {})
        except ConfigError as error:
            mistakes += error.lines
        else:
            if composed is not section:
                sections.append((name, composed))
    if mistakes:
        raise ConfigError(mistakes)
    return _with_sections(tuple(sections))


def component_references(values: Mapping[str, Any]) -> list[str]:
    """Return the values that name a component which is not built in."""
    found = []
    for kind in components.KINDS.values():
        section, _, key = kind.key.partition(".")
        own = values.get(section)
        reference = own.get(key) if isinstance(own, dict) else None
        if isinstance(reference, str) and ":" in reference:
            found.append(reference)
    return found


def component_sources(config: Config) -> list[Source]:
    """Return the sources of the chosen components that are not built in."""
    found = []
    for name, section in section_classes(type(config)).items():
        for key, field in section.model_fields.items():
            if kind := kind_of(field):
                found.append(components.source(kind, getattr(getattr(config, name), key)))
    return [source for source in found if source is not None]


def section_classes(config: type[Config]) -> dict[str, type[Section]]:
    """Return the classes of a config's sections by name."""
    classes: dict[str, Any] = {n: field.annotation for n, field in config.model_fields.items()}
    return classes


@cache
def _with_sections(sections: tuple[tuple[str, type[Section]], ...]) -> type[Config]:
    fields: dict[str, Any] = {name: (section, ...) for name, section in sections}
    return create_model("Config", __base__=Config, **fields) if sections else Config
