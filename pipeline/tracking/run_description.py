"""`mlflow.json`: everything that MLflow stores about a run besides metric points and artifacts."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import RunError
from pipeline.run.source import RunSource
from pipeline.storage.atomic import write_file
from pipeline.storage.base import is_url
from pipeline.storage.redaction import without_password
from pipeline.tracking.base import NO_HIGHLIGHTS, Highlights

if TYPE_CHECKING:
    from pipeline.corpus.dataset.manifest import Manifest

MAX_PARAM_CHARS = 6000
"""MLflow's limit on the length of a param's value."""
MAX_TAG_CHARS = 5000
"""Maximum length of a tag's value; newer versions of MLflow allow 8,000 characters."""
COMMAND_TAG = "headrace.command"


@dataclass
class RunDescription:
    """A run's identity, params, tags, dataset and status, stored as `mlflow.json`."""

    key: str
    """Random key that identifies the run on every MLflow server."""
    uri: str
    """Tracking URI of the last start, without the password."""
    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    dataset: dict[str, str]
    """Fields of `mlflow.entities.Dataset`: name, digest, source_type, source, profile."""
    started: float
    """Unix seconds of the run's first start."""
    status: Literal["RUNNING", "FINISHED", "FAILED", "KILLED"] = "RUNNING"
    ended: float = 0.0
    """Unix seconds."""
    run_id: str = ""
    """MLflow's id of the run, for people and programs that look it up on the server."""
    experiment_id: str = ""
    """MLFLOW_EXPERIMENT_ID if that chose the experiment; the server gives its name."""
    given_run_id: str = ""
    """MLFLOW_RUN_ID: an existing MLflow run that receives the run."""
    changed: dict[str, str] = field(default_factory=dict)
    """The default of each param that has another value."""
    splits: dict[str, int] = field(default_factory=dict)
    """Number of rows of each split."""
    predict: str = ""
    """Command that predicts with the run."""
    example: str = ""
    """A line that this command reads."""
    log_model: bool = False
    """Whether the best model is logged at the end of the run."""
    registered_model_name: str = ""
    """Name in the model registry; empty: the model is not registered."""
    model_alias: str = ""
    """Alias of the registered version, such as champion; empty if there is none."""

    @property
    def has_model(self) -> bool:
        """Whether the run has ended with a model to log."""
        return self.log_model and self.status == "FINISHED"

    @classmethod
    def create(
        cls,
        folder: Path,
        uri: str,
        experiment: str,
        name: str,
        params: Mapping[str, Any],
        facts: Mapping[str, Any],
        manifest: Manifest,
        experiment_id: str = "",
        given_run_id: str = "",
        highlights: Highlights = NO_HIGHLIGHTS,
        *,
        log_model: bool = False,
        registered_model_name: str = "",
        model_alias: str = "",
    ) -> RunDescription:
        """Describe a run that starts or resumes in `folder`; a resumed run keeps key and start.

        Raises RunError if an existing `mlflow.json` cannot be read.
        """
        previous = cls.read(folder)
        return cls(
            key=previous.key if previous else uuid.uuid4().hex,
            uri=without_password(uri),
            experiment=experiment,
            name=name,
            params=to_mlflow_params(params),
            tags={f"headrace.{fact}": str(value) for fact, value in facts.items()},
            dataset=_describe_dataset(manifest),
            started=previous.started if previous else time.time(),
            experiment_id=experiment_id,
            given_run_id=given_run_id,
            changed={
                key: "" if default == "None" else default
                for key, default in to_mlflow_params(highlights.changed).items()
            },
            splits={name: split.rows for name, split in manifest.splits.items()},
            predict=highlights.predict,
            example=highlights.example,
            log_model=log_model,
            registered_model_name=registered_model_name,
            model_alias=model_alias,
        )

    @classmethod
    def read(cls, folder: Path) -> RunDescription | None:
        """Read a run folder's description, or return None if the run was never tracked.

        Raises RunError if the file cannot be read.
        """
        path = folder / "mlflow.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{path}: cannot be read ({error}), so the run cannot be found in MLflow; "
                f"delete the file to start a new MLflow run"
            ) from None

    def write(self, folder: Path) -> None:
        write_file(folder / "mlflow.json", json.dumps(asdict(self), indent=1, ensure_ascii=False))


def source_tags(source: RunSource) -> dict[str, str]:
    """Return MLflow's tags for the source of a run, and a tag with its command."""
    tags = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": source.program,
        "mlflow.user": source.user,
        COMMAND_TAG: source.command,
    }
    if source.repository:
        tags |= {
            "mlflow.source.git.commit": source.repository.commit,
            "mlflow.source.git.branch": source.repository.branch,
            "mlflow.source.git.repoURL": source.repository.url,
            "mlflow.source.git.dirty": str(source.repository.dirty).lower(),
        }
    return {name: value[:MAX_TAG_CHARS] for name, value in tags.items() if value}


def to_mlflow_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Convert config values to text, lists and mappings to JSON.

    Texts are truncated to MLflow's limit.
    """
    texts = {key: _to_text(value) for key, value in params.items()}
    return {key: text[:MAX_PARAM_CHARS] for key, text in texts.items()}


def _to_text(value: Any) -> str:
    is_json = isinstance(value, (list, dict))
    return json.dumps(value, ensure_ascii=False) if is_json else str(value)


def _describe_dataset(manifest: Manifest) -> dict[str, str]:
    location, train = manifest.location, manifest.splits.get("train")
    remote = is_url(location)
    return {
        "name": location.rstrip("/").rsplit("/", 1)[-1],
        "digest": manifest.fingerprint[:16],
        "source_type": "remote" if remote else "local",
        "source": json.dumps({"uri": location if remote else str(manifest.path.absolute())}),
        "profile": json.dumps({"rows": train.rows, "tokens": train.tokens} if train else {}),
    }
