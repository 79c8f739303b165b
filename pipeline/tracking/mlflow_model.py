"""Saves the best model of a run in MLflow's format: a folder that loads without this repository.

The folder has an exported model (safetensors and tokenizers), a copy of this package, and
`mlflow_model_code.py`, which loads the one with the other. Nothing in it is pickled.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError

if TYPE_CHECKING:
    from pipeline.inference.model import Model

CODE = Path(__file__).with_name("mlflow_model_code.py")
PACKAGE = Path(__file__).parents[1]
NOT_COPIED = ("__pycache__", "configs")
"""Folders of the package that a model does not need."""
REQUIREMENTS = (
    "braceexpand", "charset-normalizer", "fastokens", "filelock", "fsspec", "mlflow", "numpy",
    "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "tokenizers", "torch", "tqdm",
    "webdataset",
)  # fmt: skip
"""Packages that predictions need; a model requires the versions that are installed here."""
IMAGE_REQUIREMENTS = ("pillow",)


def save_model(
    run: Path, target: Path, example: str, *, run_id: str | None = None, model_id: str | None = None
) -> None:
    """Save the best model of the run in a folder.

    The model predicts the input example first: the signature describes that prediction. Raises
    RunError if it has none.

    Args:
        run: Folder of the run.
        target: Folder to create.
        example: A line that `headrace predict` reads.
        run_id: MLflow's id of the run, if it is logged.
        model_id: MLflow's id of the model, if it is logged.
    """
    import pandas
    from mlflow import pyfunc
    from mlflow.models import Model as MlflowModel
    from mlflow.models import ModelSignature

    import pipeline
    from pipeline.export.folder import export_folder
    from pipeline.tracking.mlflow_model_code import ARTIFACT

    model = pipeline.load(run)
    row = example_row(model, example)
    outputs = None
    if row is not None:
        (prediction,) = model.predict([row])
        if "error" in prediction:
            raise RunError(f"the model cannot predict {example!r}: {prediction['error']}")
        outputs = output_schema(prediction)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow wants an input example for images, too
        exported, package = Path(folder) / ARTIFACT, Path(folder) / PACKAGE.name
        facts = export_folder(model.trained, exported)
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns(*NOT_COPIED))
        pyfunc.save_model(
            path=target,
            python_model=CODE,
            artifacts={ARTIFACT: str(exported)},
            code_paths=[str(package)],
            signature=ModelSignature(input_schema(model), outputs),
            input_example=None if row is None else pandas.DataFrame([row]),
            pip_requirements=requirements(images=model.trained.reads_images),
            metadata={"headrace": facts.version, "task": facts.task, "step": facts.step},
            mlflow_model=MlflowModel(run_id=run_id, model_uuid=model_id, model_id=model_id),
        )


def requirements(*, images: bool) -> list[str]:
    """Return what a model needs as `package==version`, without local versions such as +cpu."""
    names = [*REQUIREMENTS, *(IMAGE_REQUIREMENTS if images else ())]
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def input_schema(model: Model) -> Any:
    """Return MLflow's schema of the columns of a row: texts, and images as the bytes of a file."""
    from mlflow.types import ColSpec, DataType, Schema

    images = {column for field in _inputs(model) if _is_image(field) for column in field.columns}
    return Schema(
        [
            ColSpec(DataType.binary if column in images else DataType.string, column)
            for column in model.columns
        ]
    )


def output_schema(prediction: Mapping[str, Any]) -> Any:
    """Return MLflow's schema of predictions, given one of them.

    All entries are optional: the prediction for an input that cannot be used has only an `error`.
    """
    from mlflow.types import ColSpec, Schema

    return Schema(
        [
            ColSpec(_type_of(value), name, required=False)
            for name, value in {**prediction, "error": ""}.items()
        ]
    )


def _type_of(value: Any) -> Any:
    """Return the MLflow type of a JSON value; AnyType if it depends on the values inside it."""
    from mlflow.types import DataType
    from mlflow.types.schema import AnyType, Array, Map

    simple = {
        bool: DataType.boolean, int: DataType.long, float: DataType.double, str: DataType.string,
    }  # fmt: skip
    if type(value) in simple:
        return simple[type(value)]
    if isinstance(value, dict | list):
        inner = {type(item) for item in (value.values() if isinstance(value, dict) else value)}
        if len(inner) == 1 and (kind := simple.get(inner.pop())):
            return Map(kind) if isinstance(value, dict) else Array(kind)
    return AnyType()


def example_row(model: Model, line: str) -> dict[str, Any] | None:
    """Return a line that `headrace predict` reads as a row by column.

    It is None for an image that does not exist.
    """
    row: dict[str, Any] = {}
    parsed = model.trained.task.parse(line)
    for field in _inputs(model):
        value = parsed[field.name]
        if isinstance(value, Path):
            if not value.is_file():
                return None
            value = value.read_bytes()
        elif isinstance(value, list):
            value = " ".join(value)
        row |= dict.fromkeys(field.columns, "") | {field.columns[0]: value}
    return row


def _inputs(model: Model) -> list[Any]:
    fields = model.trained.task.fields(model.config.corpus)
    return [field for field in fields if field.kind_class.is_input]


def _is_image(field: Any) -> bool:
    return bool(field.kind_class.is_image)
