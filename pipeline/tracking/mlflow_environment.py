"""Chooses the MLflow server, experiment and run: by `track`, variables and the earlier start."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

from pipeline.storage.redaction import without_password
from pipeline.tracking.run_description import RunDescription

logger = logging.getLogger(__name__)

DEFAULT_EXPERIMENT = "headrace"
URI, EXPERIMENT, RUN = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"
EXPERIMENT_ID = "MLFLOW_EXPERIMENT_ID"


class Destination(NamedTuple):
    """Server, experiment and run that receive a run folder."""

    uri: str
    experiment: str
    """Name of the experiment; empty until the server has given the name of `experiment_id`."""
    experiment_id: str = ""
    given_run_id: str = ""
    """MLflow's id of an existing run to log to."""


def choose(uri: str, experiment: str, folder: Path) -> Destination:
    """Return the destination of the run in a folder by `track.uri` and `track.experiment`.

    A variable is used if its key has the default value and the run is not in MLflow yet. A line is
    logged for each variable that is ignored and has another value. Raises RunError if the folder's
    `mlflow.json` is damaged.
    """
    saved = RunDescription.read(folder)
    before = saved if saved and saved.run_id else None  # else no server has received it
    given = {name: os.environ.get(name, "") for name in (URI, EXPERIMENT, EXPERIMENT_ID, RUN)}
    if uri and given[URI] not in ("", uri):
        _log_ignored(
            URI, without_password(given[URI]), f"the run has track.uri={without_password(uri)}"
        )
    run_id = given[RUN] or (saved.given_run_id if saved else "")
    if before:
        if given[RUN] not in ("", before.run_id):
            _log_ignored(RUN, given[RUN], f"{folder} already has the MLflow run {before.run_id}")
        run_id = before.given_run_id
    name, number, by = experiment, "", f"the run has track.experiment={experiment}"
    if experiment == DEFAULT_EXPERIMENT and before:
        name, number = before.experiment, before.experiment_id
        by = f"{folder} is in the MLflow experiment {name}"
    elif experiment == DEFAULT_EXPERIMENT:
        name, by = given[EXPERIMENT], f"{EXPERIMENT} is {given[EXPERIMENT]}"
        number = "" if name else given[EXPERIMENT_ID]
        name = name if name or number else DEFAULT_EXPERIMENT
    if not run_id:  # an existing run is in an experiment already: see `MlflowCopy`
        for variable, used in ((EXPERIMENT, name), (EXPERIMENT_ID, number)):
            if given[variable] not in ("", used):
                _log_ignored(variable, given[variable], by)
    return Destination(uri or given[URI] or _default_uri(), name, number, run_id)


def shown_uri(uri: str) -> str:
    """Return `track.uri` or the variable's value, empty if neither is set."""
    return uri or os.environ.get(URI, "")


def _log_ignored(variable: str, value: str, reason: str) -> None:
    logger.warning("%s=%s: ignored; %s", variable, value, reason)


def _default_uri() -> str:
    """Return the default store of `mlflow ui` in this folder; its artifacts are in ./mlruns."""
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"
