"""Python code of a logged model: MLflow copies this file into the model and runs it to load it."""

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pandas
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

ARTIFACT = "model"
"""Name of the exported model among the artifacts."""


class TrainedModel(PythonModel):
    """Predicts as `headrace predict`: one JSON object for each row."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the exported model with the code that is in the logged model.

        This code runs on every load, so the user's components in it are trusted, too.
        """
        import pipeline

        folder = Path(context.artifacts[ARTIFACT])
        version = json.loads((folder / "config.json").read_text(encoding="utf-8"))["version"]
        if version != pipeline.__version__:
            logging.getLogger(__name__).warning(
                "%s was logged with Headrace %s, but this process has imported Headrace %s from "
                "%s; load it in another process",
                folder, version, pipeline.__version__, pipeline.__file__,
            )  # fmt: skip
        self._model = pipeline.load(folder, trust_code=True)
        self._lock = threading.Lock()

    def predict(
        self,
        context: PythonModelContext | None,
        model_input: pandas.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the prediction for each row of a table, or for each text or row of a list."""
        rows: Any = model_input
        if isinstance(model_input, pandas.DataFrame):
            table = model_input.astype(object)
            rows = table.where(table.notna(), None).to_dict("records")
        with self._lock:  # the server calls it from several threads
            predictions: list[dict[str, Any]] = self._model.predict(rows)
        return predictions


set_model(TrainedModel())
