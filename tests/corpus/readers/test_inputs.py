"""Names of input files that have the characters of globs."""

from pathlib import Path

import pytest

from pipeline.corpus.readers.inputs import locate, resolve


@pytest.mark.parametrize("name", ["a[1].csv", "[ab].csv", "a{1,2}.csv", "a*.csv", "a?.csv"])
def test_a_file_that_exists_is_taken_literally(name: str, tmp_path: Path) -> None:
    for file in (name, "a1.csv", "a.csv", "b.csv", "ab.csv"):
        (tmp_path / file).touch()
    assert [source.name for source in locate([name], tmp_path)] == [name]
    (absolute,) = resolve([f"{tmp_path}/{name}"])
    assert absolute.path == tmp_path / name


@pytest.mark.parametrize("folder", ["x [1]", "[x]/y[2]"])
def test_brackets_of_a_folder_that_exists_are_taken_literally(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(parents=True)
    for file in ("a1.csv", "b2.csv", "c3.csv"):
        (tmp_path / folder / file).touch()
    names = [source.name for source in locate([f"{folder}/[ab]*.csv"], tmp_path)]
    assert names == [f"{folder}/a1.csv", f"{folder}/b2.csv"]
    (absolute,) = locate([f"{tmp_path}/{folder}/c*.csv"], "/")
    assert absolute.path == tmp_path / folder / "c3.csv"


def test_brackets_of_a_folder_that_does_not_exist_are_a_glob(tmp_path: Path) -> None:
    for folder in ("x1", "x2", "x3"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").touch()
    names = [source.name for source in locate(["x[12]/*.csv"], tmp_path)]
    assert names == ["x1/a.csv", "x2/a.csv"]
