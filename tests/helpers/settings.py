"""Sections with the keys of all built-in tasks, for tests of their parts."""

from typing import Any

from pipeline.components import make
from pipeline.corpus.fields.images import StepSettings
from pipeline.corpus.fields.kinds.characters import CharactersField
from pipeline.corpus.fields.kinds.features import FeaturesField
from pipeline.corpus.fields.kinds.labels import LabelsField
from pipeline.corpus.fields.kinds.targets import TargetsField
from pipeline.models.captioner import CaptionerSettings
from pipeline.models.classifier import Classifier
from pipeline.models.language_model import LanguageModel
from pipeline.models.layers.images import ImageSteps
from pipeline.models.settings import PretrainedSettings
from pipeline.models.tagger import Tagger
from pipeline.models.translator import Translator
from pipeline.tasks.captioning import Captioning
from pipeline.tasks.classification import Classification
from pipeline.tasks.language_modeling import LanguageModeling
from pipeline.tasks.translation import Translation, Vocabularies


class CorpusKeys(
    CharactersField.Settings,
    LabelsField.Settings,
    TargetsField.Settings,
    StepSettings,
    FeaturesField.Settings,
    Vocabularies.Settings,
):
    """Keys of all field kinds."""


class ModelKeys(
    Classifier.Settings,
    Tagger.Settings,
    LanguageModel.Settings,
    CaptionerSettings,
    Translator.Settings,
    ImageSteps.Settings,
    PretrainedSettings,
):
    """Keys of all models."""


class TaskKeys(
    Classification.Settings, Captioning.Settings, Translation.Settings, LanguageModeling.Settings
):
    """Keys of all tasks."""


def corpus_settings(**values: Any) -> Any:
    return make(CorpusKeys, **values)


def model_settings(**values: Any) -> Any:
    return make(ModelKeys, **values)


def task_settings(**values: Any) -> Any:
    return make(TaskKeys, **values)
