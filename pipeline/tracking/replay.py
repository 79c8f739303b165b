"""Deliver an ended run to MLflow: python -m pipeline.tracking.replay RUN_DIR [--uri URI]"""

import argparse
import sys
from pathlib import Path

from pipeline.errors import HeadraceError, RunError, TrainingError
from pipeline.settings import expand_home
from pipeline.storage.redaction import without_password
from pipeline.tracking.follower import RunReader, first_line
from pipeline.tracking.mlflow_copy import MlflowCopy
from pipeline.tracking.run_description import RunDescription


def replay(folder: Path, uri: str = "") -> str:
    """Deliver what MLflow lacks of an ended run; return the run's MLflow id.

    `uri` is the MLflow server to deliver to; by default the one that tracked the run. Raises
    RunError if the run was never tracked, TrainingError if MLflow cannot be reached or refuses the
    data.
    """
    description = RunDescription.read(folder)
    if description is None:
        raise RunError(
            f"{folder}: has no mlflow.json, so the run was not tracked in MLflow; see "
            f"track.trackers"
        )
    try:
        copy = MlflowCopy(description, uri or description.uri, folder)
        reader = RunReader(folder, copy.last_steps)
        for points in reader.points():
            copy.log_metrics(points)
        if description.status != "RUNNING":
            copy.mark_ended()
        for name, report in reader.reports():
            copy.log_report(name, report)
        copy.log_results()
        if description.has_model:
            copy.log_model()
    except Exception as error:
        location = without_password(uri) or description.uri
        raise TrainingError(
            f"MLflow at {location}: {first_line(error)}; check the server, or give another --uri"
        ) from error
    return copy.run_id


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.tracking.replay",
        description="Deliver to MLflow what it lacks of a run.",
    )
    parser.add_argument("run_dir", type=expand_home, help="folder of the run")
    parser.add_argument("--uri", default="", help="default: the server that tracked the run")
    arguments = parser.parse_args()
    try:
        print(f"MLflow run {replay(Path(arguments.run_dir), arguments.uri)} has everything")
    except HeadraceError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
