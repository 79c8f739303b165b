"""What a session configures before it trains."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import config, tasks
from pipeline.training import session
from tests.helpers.corpora import CASES, small_run_overrides


@pytest.mark.parametrize("deterministic", [False, True])
def test_deterministic_algorithms_are_chosen_before_the_model_is_built(
    deterministic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = []
    monkeypatch.setattr(session, "use_deterministic_algorithms", lambda: chosen.append(True))

    class ReachedError(Exception):
        pass

    def get(name: str) -> None:
        raise ReachedError

    monkeypatch.setattr(tasks, "get", get)
    monkeypatch.setattr(session, "open_mixed", lambda *_: [])
    CASES["classification"].write(tmp_path / CASES["classification"].file, 10)
    settings = config.load(
        None, [*small_run_overrides(tmp_path), f"train.deterministic={deterministic}".lower()]
    )
    world = SimpleNamespace(gather=lambda value: [value])
    manifest = SimpleNamespace(fingerprint="", location="")
    with pytest.raises(ReachedError):
        session.build(settings, manifest, world, SimpleNamespace(checkpoints=tmp_path), None)  # type: ignore[arg-type]
    assert chosen == [True] * deterministic
