"""The sections of a config."""

from pipeline.corpus.settings import CorpusSettings
from pipeline.models.settings import ModelSettings
from pipeline.run.settings import RunSettings
from pipeline.settings import Section
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
