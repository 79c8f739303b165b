"""The loader that the settings ask for: where bytes come from, what is mixed, how it is planned."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from pipeline.corpus.dataset.manifest import Manifest, open_dataset
from pipeline.errors import DatasetError
from pipeline.storage.base import Store, is_url
from pipeline.storage.opening import open_store
from pipeline.stream.loader import Loader
from pipeline.stream.plan import Plan, PlanSource
from pipeline.stream.reader import Reader
from pipeline.stream.settings import StreamSettings

GB = 1_000_000_000


def open_loader(
    manifest: Manifest,
    settings: StreamSettings,
    seed: int = 0,
    *,
    split: str = "train",
    mixed: Sequence[Manifest] = (),
    rank: int = 0,
    world: int = 1,
    say: Callable[[str], None] = print,
) -> Loader:
    """Updates of a split for one rank: of "train" shuffled and repeated, of others in order.

    `mixed` are the datasets of `settings.mix` as `open_mixed` opened them. `say` is told of damaged
    blocks that are skipped and of a cache that cannot be written.
    """
    training = split == "train"
    manifests = [manifest, *mixed]
    passes = [settings.repeat, *settings.mix.values()] if mixed else [settings.repeat]
    if not training:
        manifests, passes = [manifest], [1.0]
    readers = [open_reader(dataset, settings, split, say) for dataset in manifests]
    sources = [
        PlanSource(reader.index, dataset.fingerprint, Fraction(str(share)))
        for reader, dataset, share in zip(readers, manifests, passes, strict=True)
    ]
    for source, dataset, share in zip(sources, manifests, passes, strict=True):
        if training and not source.blocks_before(1):
            raise DatasetError(
                f"{share} passes over {dataset.location} an epoch are less than one of its "
                f"{source.index.blocks} blocks; raise stream.repeat or its share in stream.mix"
            )
    plan = Plan(sources, settings, seed, shuffle=training)
    budget = settings.token_budget // settings.accumulation_steps
    if plan.longest > budget and not settings.batch_rows:
        raise DatasetError(
            f"stream.token_budget={settings.token_budget}: leaves {budget} tokens for a batch, but "
            f"the longest row of {' + '.join(m.location for m in manifests)} has {plan.longest}; "
            "raise it"
        )
    return Loader(readers, plan, rank, world)


def open_reader(
    manifest: Manifest, settings: StreamSettings, split: str, say: Callable[[str], None]
) -> Reader:
    """The blocks of a split, wherever it lies."""
    store = open_store(manifest.location, attempts=settings.attempts, timeout=settings.timeout)
    report = say if settings.on_corrupt == "skip" else None
    return Reader(manifest, split, store, _kept(store, manifest, settings, say), report)


def open_mixed(manifest: Manifest, settings: StreamSettings) -> list[Manifest]:
    """The datasets of `settings.mix`. Raises DatasetError if one does not fit the main one."""
    found = []
    for location in settings.mix:
        other = open_dataset(location, whole=settings.on_corrupt == "stop")
        compared = {
            "tokenizers": "another tokenizer", "names": "other labels",
            "fields": "other columns", "segments": "another corpus.overflow",
        }  # fmt: skip
        for what, meaning in compared.items():
            if getattr(other, what) != getattr(manifest, what):
                raise DatasetError(
                    f"stream.mix: {location} has {meaning} than {manifest.location}, so its "
                    "rows mean something else; prepare it with corpus.tokenizer and "
                    "corpus.label_names of that one"
                )
        found.append(other)
    return found


def _kept(
    store: Store, manifest: Manifest, settings: StreamSettings, say: Callable[[str], None]
) -> Store:
    """The store of a dataset, what is read of it kept if that is asked for."""
    if not settings.cache or not is_url(manifest.location):
        return store
    from pipeline.storage.cache import CachedStore

    return CachedStore(
        store,
        Path(settings.cache).expanduser(),
        int(settings.cache_gb * GB),
        space=manifest.fingerprint[:16],
        whole_files=settings.cache_shards,
        say=say,
    )
