"""Finds the Arrow files of Hugging Face datasets that were saved with `save_to_disk`."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

STATE, SPLITS = "state.json", "dataset_dict.json"


def is_saved_dataset(folder: Path) -> bool:
    """Return whether a folder is a saved dataset, with or without several splits."""
    return (folder / STATE).is_file() or (folder / SPLITS).is_file()


def data_files(folder: Path, name: str) -> list[str]:
    """Return the names of the files with a dataset's rows, in order.

    Raises InputError if the folder has several splits, if the rows are selected or reordered by an
    index, or if the folder is damaged or lacks a file.
    """
    if not (folder / STATE).is_file():
        splits = _load(folder, SPLITS, name).get("splits")
        splits = [*map(str, splits)] if isinstance(splits, list) else []
        names = ", ".join(f"{name.rstrip('/')}/{split}" for split in splits)
        raise InputError(f"{name}: has the splits {', '.join(splits)}; use one of {names}")
    state = _load(folder, STATE, name)
    if state.get("_indices_data_files"):
        raise InputError(
            f"{name}: its rows are selected or reordered by an index; save it again after "
            "dataset.flatten_indices()"
        )
    try:
        files = [str(file["filename"]) for file in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{name}: {STATE} is damaged: {error!r}; save the dataset again") from None
    if not files:
        raise InputError(f"{name}: {STATE} lists no data files; save the dataset again")
    for file in files:
        if Path(file).name != file:
            raise InputError(
                f"{name}: {STATE} lists a file outside the folder, {file!r}; save the dataset again"
            )
        if not (folder / file).is_file():
            raise InputError(f"{name}: {file} is missing; save the dataset again")
    return files


def _load(folder: Path, file: str, name: str) -> dict[str, Any]:
    try:
        values = json.loads((folder / file).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name}: {file} cannot be read: {error}; save the dataset again"
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{name}: {file} is not a JSON object; save the dataset again")
    return values
