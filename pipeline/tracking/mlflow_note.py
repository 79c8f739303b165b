"""The description of an MLflow run, which people may edit in the UI."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

NOTE_TAG = "mlflow.note.content"
DIGEST_TAG = "headrace.note"
"""Tag with the digest of the last note that `Note` wrote."""


class Note:
    """Writes the note of a run, unless a person has written or edited it."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._written = ""

    def write(self, text: str) -> None:
        """Replace the note if its text differs."""
        from mlflow.entities import RunTag

        if text == self._written:
            return
        tags = self._client.get_run(self._run_id).data.tags
        note = tags.get(NOTE_TAG, "")
        if note and _digest(note) != tags.get(DIGEST_TAG):
            logger.debug("the description of the MLflow run was edited, so it is left as it is")
        elif note != text:
            written = [RunTag(NOTE_TAG, text), RunTag(DIGEST_TAG, _digest(text))]
            self._client.log_batch(self._run_id, tags=written)
        self._written = text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
