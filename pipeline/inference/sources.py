"""Where a trained model is loaded from: a local folder or an MLflow URI."""

from pathlib import Path

from pipeline.errors import RunError
from pipeline.run.exported import is_exported

MLFLOW_SCHEMES = ("models:/", "runs:/", "mlflow-artifacts:/")
"""Beginnings of the URIs of models and artifacts in MLflow."""


def local_folder(source: str | Path) -> Path:
    """Return the folder of a model, downloading it from MLflow if `source` is one of its URIs.

    Raises RunError if MLflow has no such model, or one that Headrace did not log.
    """
    if not str(source).startswith(MLFLOW_SCHEMES):
        return Path(source).expanduser()
    try:
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError:
        raise RunError(
            f"{source}: MLflow is not installed; pip install mlflow, or name a folder"
        ) from None
    try:
        folder = Path(download_artifacts(artifact_uri=str(source)))
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"{source}: cannot be downloaded: {reason}; check the name and MLFLOW_TRACKING_URI"
        ) from None
    found = next(filter(is_exported, [folder, *sorted(p for p in folder.rglob("*"))]), None)
    if found is None:
        raise RunError(f"{source}: is not a model that Headrace logged; name one of those")
    return found
