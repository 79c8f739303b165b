"""Where the rows of an input file are read: there, or where its content is laid out to be read."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from pipeline.corpus.prepare.work_dir import Job
from pipeline.corpus.readers.download import FileVersion, fetch
from pipeline.corpus.readers.inputs import InputFile, InputSource
from pipeline.corpus.readers.opening import form, opened, unzip
from pipeline.corpus.readers.parallel_files import Compound, Folder, open_compound, write
from pipeline.corpus.readers.text import check_columns
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.worker_pool import advance
from pipeline.storage.atomic import atomic_file


def source(job: Job, file: InputFile) -> Path:
    """The file itself if it can be read from its middle, which one that is remote or compressed
    cannot, nor what is no file of rows; else its content in the work folder, put there unless it is
    there already."""
    if table := _table(file):
        return _as_parquet(job.scanned(file.number, "parquet"), table)
    path = file.path
    named = path or Path(file.name.partition("?")[0])
    kind, gzipped = form(named, file.name, job.settings.format)
    plain = job.scanned(file.number, kind[1:])
    if path is None:
        path = plain.with_suffix(f"{kind}.gz") if gzipped else plain
        chunks = fetch(file.name, FileVersion(file.bytes, file.version))
        _lay_out(path, ((chunk, len(chunk)) for chunk in chunks))
    if gzipped:
        local = file.path is not None
        chunks_read = unzip(path, file.name)
        _lay_out(plain, ((chunk, read * local) for chunk, read in chunks_read))
        path = plain
    return path


@contextmanager
def each_row(
    settings: CorpusSettings, source: InputSource, columns: Sequence[str]
) -> Iterator[Iterable[Row]]:
    """The rows of what is here, from the first to the last, without a copy."""
    if context := _table(source):
        with context as table:
            check_columns(columns, list(table.types), source.name)
            yield (Row(number, values) for number, values in enumerate(table, 1))
    else:
        assert source.path is not None, "a remote file"
        with opened(settings, source.path, columns) as reader:
            yield reader


def _table(file: InputFile | InputSource) -> AbstractContextManager[Folder | Compound] | None:
    """The rows of what is no file of rows; None if it is one."""
    if file.sides:
        return open_compound({c: (s.name, s.path) for c, s in file.sides.items() if s.path})
    if file.path and file.path.is_dir():
        return nullcontext(Folder(file.path, file.name))
    return None


def _as_parquet(path: Path, context: AbstractContextManager[Folder | Compound]) -> Path:
    if not path.exists():
        with context as table, atomic_file(path) as out:
            write(table, out)
    return path


def _lay_out(path: Path, chunks: Iterable[tuple[bytes, int]]) -> None:
    """Write chunks that each come with how many bytes of the input are done with them."""
    if not path.exists():
        with atomic_file(path) as out:
            for chunk, done in chunks:
                out.write(chunk)
                advance(done)
