"""Logs the best model of a run to MLflow, and registers it, unless that is done already."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.run import checkpoint
from pipeline.run.folder import RunFolder
from pipeline.storage.atomic import sha256_of
from pipeline.tracking.follower import RunReader
from pipeline.tracking.mlflow_model import save_model
from pipeline.tracking.run_description import RunDescription

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

NAME = "model"
"""Name of the model in MLflow: runs:/RUN_ID/model."""
DIGEST_TAG = "headrace.model"
"""Tag of a logged model with the digest of what it was made of."""
MODEL_VERSIONS_TAG = "mlflow.modelVersions"
"""Tag of a logged model that MLflow's page of the model reads."""
SPLITS = ("val/", "test/")
"""Beginnings of the names of metrics that are about a model."""


class LoggedModels:
    """The models of a run in MLflow. All methods raise the errors of MLflow.

    Args:
        client: Client of the server that has the run.
        run_id: MLflow's id of the run.
        description: The run's description.
        folder: Run folder.
    """

    def __init__(
        self, client: MlflowClient, run_id: str, description: RunDescription, folder: Path
    ) -> None:
        self._client, self._run_id, self._description = client, run_id, description
        self._folder = RunFolder(folder)

    def log(self) -> None:
        """Log the best model, and register it, if MLflow has not got it yet.

        Raises RunError if the run has no model.
        """
        best = self._folder.best_checkpoint()
        digest = self._digest(best)
        model_id = self._find(digest) or self._create(best, digest)
        if self._description.registered_model_name:
            self._register(model_id)

    def _digest(self, best: Path) -> str:
        """Return the digest of the files that a model is made of."""
        files = [best / checkpoint.MODEL, self._folder.calibration]
        digests = [sha256_of(file) for file in files if file.exists()]
        return sha256("".join(digests).encode()).hexdigest()[:12]

    def _find(self, digest: str) -> str:
        """Return the id of the model with this digest, or an empty string.

        Models that were not uploaded completely are deleted.
        """
        found = ""
        experiment = self._client.get_run(self._run_id).info.experiment_id
        own = f"source_run_id = '{self._run_id}'"
        for model in self._client.search_logged_models([experiment], own):
            if DIGEST_TAG not in model.tags:
                continue
            if str(model.status) != "READY":
                self._client.delete_logged_model(model.model_id)
            elif model.tags[DIGEST_TAG] == digest:
                found = model.model_id
        return found

    def _create(self, best: Path, digest: str) -> str:
        """Log the model of a checkpoint, and return its id."""
        from mlflow.entities import LoggedModelOutput

        run = self._client.get_run(self._run_id)
        step = checkpoint.read_state(best, {})[0].step
        with TemporaryDirectory() as temporary:
            model = self._client.create_logged_model(
                run.info.experiment_id,
                name=NAME,
                source_run_id=self._run_id,
                tags={DIGEST_TAG: digest, "headrace.step": str(step)},
                params=dict(run.data.params),
            )
            model_id: str = model.model_id
            try:
                target = Path(temporary) / NAME
                save_model(
                    self._folder.path, target, self._description.example, run_id=self._run_id,
                    model_id=model_id,
                )  # fmt: skip
                self._client.log_model_artifacts(model_id, str(target))
                output = LoggedModelOutput(model_id, step)
                self._client.log_outputs(self._run_id, models=[output])
                self._log_metrics(model_id, step)
                self._client.finalize_logged_model(model_id, "READY")
            except Exception:
                with suppress(Exception):  # the first error is reported
                    self._client.delete_logged_model(model_id)
                raise
        return model_id

    def _log_metrics(self, model_id: str, step: int) -> None:
        """Link the run's metrics of a step to the model: the same points, so MLflow has no more."""
        from mlflow.entities import Metric

        metrics = [
            Metric(
                point.name, point.value, int(point.time * 1000), point.step, model_id=model_id,
                run_id=self._run_id,
            )
            for points in RunReader(self._folder.path, {}).points()
            for point in points
            if point.step == step and point.name.startswith(SPLITS)
        ]  # fmt: skip
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)

    def _register(self, model_id: str) -> None:
        """Register a model, and set the alias, unless that is done already.

        An alias that has been moved to another version since then stays there.
        """
        from mlflow.exceptions import MlflowException

        name, alias = self._description.registered_model_name, self._description.model_alias
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
                raise
        # A source models:/ID would be looked up on the server of the process, not of the client.
        source = self._client.get_logged_model(model_id).artifact_location
        registered = self._client.search_model_versions(f"name = '{name}'")
        version = next((str(v.version) for v in registered if v.source == source), "")
        is_new = not version
        if is_new:
            made = self._client.create_model_version(name, source, self._run_id, model_id=model_id)
            version = str(made.version)
            self._list_version(model_id, {"name": name, "version": version})
        if alias and (is_new or alias not in self._client.get_registered_model(name).aliases):
            self._client.set_registered_model_alias(name, alias, version)

    def _list_version(self, model_id: str, version: dict[str, Any]) -> None:
        """Add a version to those that the page of a model in MLflow shows."""
        tags = self._client.get_logged_model(model_id).tags
        versions = [*json.loads(tags.get(MODEL_VERSIONS_TAG, "[]")), version]
        self._client.set_logged_model_tags(model_id, {MODEL_VERSIONS_TAG: json.dumps(versions)})
