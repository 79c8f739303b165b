"""`calibration.json` and its line in the summary."""

from dataclasses import replace
from pathlib import Path

from pipeline.run.calibration import CalibrationRecord, read_record
from pipeline.run.folder import RunFolder
from pipeline.run.summary import Summary, read_summary

RECORD = CalibrationRecord(
    step=520, weights="ab", method="temperature", rows=2490, folds=5, temperature=1.4321,
    before={"loss": 0.3, "calibration_error": 0.0412},
    after={"loss": 0.2, "calibration_error": 0.0118},
)  # fmt: skip
F1 = {"micro_f1": 0.5, "macro_f1": 0.25}


def test_a_record_is_read_back_unchanged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_record(folder) is None
    labels = replace(RECORD, method="per_label", label_thresholds={"größe": 0.25}, test_rows=9)
    for record in (RECORD, labels):
        record.write(folder)
        assert read_record(folder) == record


def test_lines_of_the_summary() -> None:
    temperature = "calibration temperature 1.43; ECE 0.041 -> 0.012 (5-fold)"
    assert RECORD.line() == temperature
    metrics = {"loss": 1.0, "calibration_error": 0.1}
    tested = replace(RECORD, test_rows=9, test_before=metrics, test_after=metrics)
    assert tested.line() == f"{temperature}, test 0.100 -> 0.100"
    assert len(tested.line()) <= 80
    both = replace(tested, before=F1, after=F1, test_before=F1, test_after=F1)
    labels = replace(both, method="shared", threshold=0.3101)
    assert labels.line() == (
        "calibration threshold 0.31; micro_f1 0.500 -> 0.500, test 0.500 -> 0.500"
    )
    many = {str(n): 0.5 for n in range(12345)}
    own = replace(labels, method="per_label", label_thresholds=many)
    assert own.line() == (
        "calibration 12,346 thresholds; macro_f1 0.250 -> 0.250, test 0.250 -> 0.250"
    )
    none = replace(RECORD, reason="only 30 rows, at least 100 are needed")
    assert none.line() == "calibration none: only 30 rows, at least 100 are needed"


def test_a_summary_has_the_calibration_without_the_thresholds_of_labels(tmp_path: Path) -> None:
    summary = Summary(
        step=1, epochs=1, metric="accuracy", validation={"accuracy": 0.5}, signatures={}, best=0.5,
        best_step=1, seconds=1, tokens_per_s=1, calibration=RECORD.summary(),
    )  # fmt: skip
    assert summary.lines()[1] == RECORD.line()
    folder = RunFolder(tmp_path)
    summary.write(folder)
    assert read_summary(folder) == summary
    assert "label_thresholds" not in RECORD.summary()
