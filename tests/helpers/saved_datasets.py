"""Writes Hugging Face datasets as `save_to_disk` lays them out."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

NAMES = ["negative", "positive"]


def save(folder: Path, rows: Any, files: int = 1, **state: Any) -> Path:
    """Write rows as `Dataset.save_to_disk` does; labels are stored as indices of NAMES."""
    folder.mkdir(parents=True)
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": NAMES, "_type": "ClassLabel"},
    }
    columns: Any = [("text", pa.string()), ("label", pa.int64())]
    schema = pa.schema(
        columns,
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    names = [f"data-{n:05d}-of-{files:05d}.arrow" for n in range(files)]
    size = -(-len(rows) // files)
    for number, name in enumerate(names):
        part = rows[number * size : (number + 1) * size]
        values = {
            "text": [row["text"] for row in part],
            "label": [NAMES.index(row["label"]) for row in part],
        }
        with pa.ipc.new_stream(str(folder / name), schema) as writer:
            writer.write_table(pa.table(values, schema=schema), max_chunksize=16)
    contents: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "9cd3b5b3d0a8f8b1", "_format_columns": None, "_format_kwargs": {},
        "_format_type": None, "_output_all_columns": False, "_split": None,
    }  # fmt: skip
    (folder / "state.json").write_text(json.dumps(contents | state, indent=2))
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    return folder
