"""Where the rows of an input file are read: there, or where its content is laid out to be read."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.corpus.crew import advance
from pipeline.corpus.readers import form, unzip
from pipeline.corpus.remote import Facts, fetch
from pipeline.corpus.stages import InputFile, Job
from pipeline.corpus.work import landing


def source(job: Job, file: InputFile) -> Path:
    """The file itself if it can be read from its middle, which one that is remote or compressed
    cannot; else its content in the work folder, put there unless it is there already."""
    path = file.path
    named = path or Path(file.name.partition("?")[0])
    kind, gzipped = form(named, file.name, job.settings.format)
    plain = job.scanned(file.number, kind[1:])
    if path is None:
        path = plain.with_suffix(f"{kind}.gz") if gzipped else plain
        chunks = fetch(file.name, Facts(file.bytes, file.version))
        _lay_out(path, ((chunk, len(chunk)) for chunk in chunks))
    if gzipped:
        local = file.path is not None
        chunks_read = unzip(path, file.name)
        _lay_out(plain, ((chunk, read * local) for chunk, read in chunks_read))
        path = plain
    return path


def _lay_out(path: Path, chunks: Iterable[tuple[bytes, int]]) -> None:
    """Write chunks that each come with how many bytes of the input are done with them."""
    if not path.exists():
        with landing(path) as out:
            for chunk, done in chunks:
                out.write(chunk)
                advance(done)
