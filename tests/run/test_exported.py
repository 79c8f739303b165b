"""The format of an exported model: what is in it, what is not, and damage."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
import yaml

from pipeline import __version__
from pipeline.corpus.dataset.manifest import read_manifest
from pipeline.errors import RunError
from pipeline.run import exported
from pipeline.run.exported import ExportedModel

TOKENIZER = '{"model": {}}'
TOKENIZER_SHA256 = sha256(TOKENIZER.encode()).hexdigest()
CONFIG = {
    "run": {"dir": "/home/bob/runs/a"},
    "task": {"name": "classification"},
    "corpus": {
        "input": ["/home/bob/a.csv", "s3://bob:word@bucket/b.csv"],
        "root": "/home/bob",
        "validation": 0.1,
    },
    "model": {"hidden": 8, "init_from": "/home/bob/runs/b"},
    "track": {"uri": "https://bob:word@host"},
}
FACTS = (
    '{"library_name": "headrace", "format": 1, "task": "a", "precision": "fp32", "step": 1, '
    '"version": "1", "calibration": %s}'
)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The config, dataset.json and tokenizer of a run."""
    folder = tmp_path / "run"
    write(folder / "config.yaml", yaml.safe_dump(CONFIG))
    manifest = {
        "format": 4, "settings": CONFIG["corpus"], "fields": [], "names": {"label": ["a", "b"]},
        "counts": {}, "tokenizers": {"tokenizer": {"sha256": TOKENIZER_SHA256, "vocab_size": 5}},
        "inputs": [{"path": "/home/bob/a.csv", "bytes": 5}], "splits": {}, "report": {},
    }  # fmt: skip
    write(folder / "dataset/dataset.json", json.dumps(manifest))
    write(folder / "dataset/tokenizer.json", TOKENIZER)
    return folder


def export(run: Path, target: Path) -> ExportedModel:
    facts = ExportedModel("classification", "bf16", 60, __version__, name="a", labels=["a", "b"])
    weights = {"scores.weight": torch.ones(2, 3, dtype=torch.bfloat16).t()}
    exported.write(
        target,
        facts,
        weights,
        config=run / "config.yaml",
        manifest=read_manifest(run / "dataset"),
        extra={"README.md": "A model."},
    )
    return exported.read(target)


def test_an_exported_folder_has_all_files_and_verifies(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "a"
    model = export(run, target)
    assert sorted(path.name for path in target.iterdir()) == [
        "README.md", "config.json", "config.yaml", "dataset.json", "model.safetensors",
        "tokenizer.json",
    ]  # fmt: skip
    assert (model.task, model.precision, model.step) == ("classification", "bf16", 60)
    assert read_manifest(target).names == {"label": ("a", "b")}
    exported.check_files(target, model)
    assert exported.is_exported(target)
    assert not exported.is_exported(run)
    assert export(run, target) == model  # replaces it


def test_nothing_of_the_machine_is_exported(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "a")
    texts = [path.read_bytes() for path in (tmp_path / "a").iterdir()]
    assert not [text for text in texts if b"bob" in text or b"word" in text]
    config = yaml.safe_load((tmp_path / "a/config.yaml").read_text())
    assert config["corpus"]["input"] == ["a.csv", "s3://bucket/b.csv"]
    assert config["model"] == {"hidden": 8}


def test_nothing_of_the_machine_is_in_a_section_or_a_reference(run: Path, tmp_path: Path) -> None:
    """Datasets to mix, caches, secrets of own components, and components in absolute folders."""
    mine = "/home/bob/mine.py:Mine"
    changed = {
        **CONFIG,
        "stream": {"mix": {"/home/bob/more": 1.0}, "cache": "/home/bob/cache", "token_budget": 64},
        "model": {"hidden": 8, "pooling": mine, "head": "own/head.py:Head", "api_key": "word"},
        "task": {"name": "/home/bob/task.py:Task", "metrics": [mine, "accuracy"]},
    }
    write(run / "config.yaml", yaml.safe_dump(changed))
    record = {
        reference: {"kind": "pooling", "sha256": "0", "version": "", "file": f"code/{name}-0.py"}
        for reference, name in ((mine, "mine"), ("own/head.py:Head", "head"))
    }
    record["/home/bob/task.py:Task"] = {**record[mine], "kind": "task", "file": "code/task-0.py"}
    write(run / "code.json", json.dumps(record))
    for name in ("mine", "head", "task"):
        write(run / f"code/{name}-0.py", "")
    facts = ExportedModel("/home/bob/task.py:Task", "bf16", 60, __version__)
    exported.write(
        tmp_path / "a",
        facts,
        {"a": torch.ones(1)},
        config=run / "config.yaml",
        manifest=read_manifest(run / "dataset"),
    )
    texts = [path.read_bytes() for path in (tmp_path / "a").iterdir() if path.is_file()]
    assert not [text for text in texts if b"bob" in text or b"word" in text]
    config = yaml.safe_load((tmp_path / "a/config.yaml").read_text())
    assert config["stream"] == {"token_budget": 64}
    assert config["task"]["metrics"] == ["code/mine-0.py:Mine", "accuracy"]
    assert config["model"]["head"] == "own/head.py:Head"
    assert exported.read(tmp_path / "a").task == config["task"]["name"] == "code/task-0.py:Task"
    assert list(json.loads((tmp_path / "a/code.json").read_text())) == [
        "code/mine-0.py:Mine", "own/head.py:Head", "code/task-0.py:Task",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name,content,error",
    [
        ("config.json", "{", r"config\.json: is damaged"),
        ("config.json", '{"library_name": "headrace", "format": 9, "version": "3"}', "format 9"),
        ("config.json", '{"library_name": "other", "format": 1}', "is damaged"),
        ("config.json", FACTS % '{"temperature": 0.0}', "calibration is out of range"),
        ("config.json", FACTS % '{"threshold": 1.5}', "calibration is out of range"),
        ("config.json", FACTS % '{"heat": 1}', r"config\.json: is damaged \(TypeError"),
        ("model.safetensors", "x", r"model\.safetensors: is damaged"),
        ("dataset.json", "{}", r"dataset\.json: is damaged: its SHA-256 is not the one in config"),
        ("tokenizer.json", "{}", r"tokenizer\.json: is damaged: its SHA-256 .* in dataset\.json"),
        ("tokenizer.json", None, r"tokenizer\.json: cannot be read: No such file"),
    ],
)
def test_damage_is_one_line(
    run: Path, tmp_path: Path, name: str, content: str | None, error: str
) -> None:
    target = tmp_path / "a"
    export(run, target)
    if content is None:
        (target / name).unlink()
    else:
        (target / name).write_text(content)
    with pytest.raises(RunError, match=error) as raised:
        exported.check_files(target, exported.read(target))
    assert len(raised.value.lines) == 1


def test_another_folder_is_not_replaced(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "a/diary.txt", "Dear diary")
    with pytest.raises(RunError, match="exists and is not an exported model"):
        export(run, tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["diary.txt"]


def test_a_failed_export_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exported, "save_file", fail)
    with pytest.raises(RunError, match="No space left on device"):
        export(run, tmp_path / "models/a")
    assert list((tmp_path / "models").iterdir()) == []
