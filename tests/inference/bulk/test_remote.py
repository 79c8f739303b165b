"""Bulk prediction from and to an S3 server."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from pipeline.errors import DatasetError, RunError
from pipeline.inference.bulk.worker import BulkOptions, predict_to
from pipeline.inference.trained import load_trained
from pipeline.runtime.launcher import RankInfo
from pipeline.storage.output import RemoteOutput
from tests.helpers.files import reviews, write

Runs = Callable[[str], Path]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a bucket on an S3 server; fsspec is configured with its endpoint and credentials."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": f"http://{host}:{port}"})
        fsspec.filesystem("s3").mkdir("reviews")
        yield "s3://reviews"
    server.stop()


@pytest.mark.slow
def test_files_at_a_url_become_parts_at_a_url(runs: Runs, bucket: str, tmp_path: Path) -> None:
    """With the same content as from local files in a local folder."""
    model = load_trained(runs("classification"))
    filesystem = fsspec.filesystem("s3")
    local = [str(write(tmp_path / f"{n}.parquet", reviews(20, n))) for n in range(2)]
    for path in local:
        filesystem.put_file(path, f"reviews/in/{Path(path).name}")
    options = BulkOptions(f"{bucket}/out", keep=("source",), rows_per_part=8)
    given = [f"{bucket}/in/*.parquet"]
    for rank in (1, 0):
        predict_to(model, given, options, (), RankInfo(rank, rank, 2))
    predict_to(model, local, BulkOptions(str(tmp_path / "out"), keep=("source",), rows_per_part=8))
    expected = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("part-*")}
    found = RemoteOutput(f"{bucket}/out")
    assert {name for name in found.sizes() if name.startswith("part-")} == expected.keys()
    assert dict(zip(sorted(expected), found.read(sorted(expected)), strict=True)) == expected
    manifests = [
        json.loads(found.read(["_manifest.json"])[0]),
        json.loads((tmp_path / "out/_manifest.json").read_text()),
    ]
    jobs = [manifest.pop("job") for manifest in manifests]
    assert [job["inputs"][0]["bytes"] for job in jobs] == [Path(local[0]).stat().st_size] * 2
    assert manifests[0] == manifests[1]
    filesystem.rm("reviews/out/part-000002.parquet")
    predict_to(model, given, options)
    assert found.read(["part-000002.parquet"]) == [expected["part-000002.parquet"]]
    other = BulkOptions(options.output, rows_per_part=8)
    with pytest.raises(RunError, match=r"s3://reviews/out: has the predictions of another job"):
        predict_to(model, given, other)
    assert pq.read_table(tmp_path / "out").num_rows == 40


@pytest.mark.slow
def test_a_missing_bucket_is_one_line(runs: Runs, tmp_path: Path, bucket: str) -> None:
    model = load_trained(runs("classification"))
    given = [str(write(tmp_path / "a.parquet", reviews(5)))]
    with pytest.raises(DatasetError, match="--output s3://missing/out: cannot be listed: "):
        predict_to(model, given, BulkOptions("s3://missing/out"))
