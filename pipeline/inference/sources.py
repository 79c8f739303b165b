"""Locates a trained model: in a local folder, in MLflow, or on the Hugging Face Hub."""

from pathlib import Path

from pipeline.errors import RunError

MLFLOW_SCHEMES = ("models:/", "runs:/", "mlflow-artifacts:/")
"""Prefixes of URIs of models and artifacts in MLflow."""
HUB_SCHEME = "hf://"
"""Prefix of a model on the Hugging Face Hub: hf://OWNER/NAME, or hf://OWNER/NAME@REVISION."""


def local_folder(source: str | Path) -> Path:
    """Return the folder of a model; a model in MLflow or on the Hub is downloaded.

    Raises RunError if there is no such model, or if Headrace did not write it.
    """
    if str(source).startswith(HUB_SCHEME):
        return _from_hub(str(source))
    if not str(source).startswith(MLFLOW_SCHEMES):
        return Path(source).expanduser()
    from pipeline.run.exported import is_exported  # imports torch

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
    found = next(filter(is_exported, [folder, *sorted(folder.rglob("*"))]), None)
    if found is None:
        raise RunError(f"{source}: is not a model that Headrace logged; give the URI of one")
    return found


def _from_hub(source: str) -> Path:
    from pipeline.run.exported import is_exported  # imports torch

    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ModuleNotFoundError:
        raise RunError(
            f"{source}: huggingface_hub is not installed; pip install huggingface_hub, or name a "
            "folder"
        ) from None
    name, _, revision = source.removeprefix(HUB_SCHEME).partition("@")
    try:
        folder = Path(snapshot_download(name, revision=revision or None))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"{source}: cannot be downloaded: {reason}; check the name, and log in for a private "
            "model"
        ) from None
    if not is_exported(folder):
        raise RunError(f"{source}: is not a model of Headrace; give the name of one")
    return folder
