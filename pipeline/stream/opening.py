"""Build the loader that the settings describe: its stores, its datasets and its batch plan."""

from collections.abc import Sequence
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
) -> Loader:
    """Return a loader of one rank's updates: "train" is shuffled and repeated, other splits are
    read once, in order.

    `mixed` are the datasets of `settings.mix`, as returned by `open_mixed`. Raises DatasetError if
    an epoch would take less than a block of a dataset, or if the longest row exceeds the budget.
    """
    training = split == "train"
    manifests = [manifest, *mixed]
    passes = [settings.repeat, *settings.mix.values()] if mixed else [settings.repeat]
    if not training:
        manifests, passes = [manifest], [1.0]
    readers = [open_reader(dataset, settings, split) for dataset in manifests]
    sources = [
        PlanSource(reader.index, dataset.fingerprint, Fraction(str(count)))
        for reader, dataset, count in zip(readers, manifests, passes, strict=True)
    ]
    for source, dataset, count in zip(sources, manifests, passes, strict=True):
        if training and not source.blocks_before(1):
            raise DatasetError(
                f"{dataset.location}: {count} passes per epoch take less than one of its "
                f"{source.index.blocks} blocks; raise stream.repeat or its value in stream.mix"
            )
    plan = Plan(sources, settings, seed, shuffle=training)
    batch_budget = settings.token_budget // settings.accumulation_steps
    if plan.longest > batch_budget and not settings.batch_rows:
        raise DatasetError(
            f"stream.token_budget={settings.token_budget}: leaves {batch_budget} tokens per batch, "
            f"but the longest row of {' + '.join(m.location for m in manifests)} has "
            f"{plan.longest}; raise it"
        )
    return Loader(readers, plan, rank, world)


def open_reader(manifest: Manifest, settings: StreamSettings, split: str) -> Reader:
    """Return a reader of a split's blocks, from a folder or a URL."""
    store = open_store(manifest.location, attempts=settings.attempts, timeout=settings.timeout)
    return Reader(
        manifest,
        split,
        store,
        _with_cache(store, manifest, settings),
        skip_damaged=settings.on_corrupt == "skip",
    )


def open_mixed(manifest: Manifest, settings: StreamSettings) -> list[Manifest]:
    """Open the datasets of `settings.mix`.

    Raises DatasetError if one has other tokenizers, labels, columns or `corpus.overflow` than the
    main dataset.
    """
    mixed = []
    for location in settings.mix:
        other = open_dataset(location, whole=settings.on_corrupt == "stop")
        compared = {
            "tokenizers": "another tokenizer", "names": "other labels",
            "fields": "other columns", "segments": "another corpus.overflow",
        }  # fmt: skip
        for attribute, difference in compared.items():
            if getattr(other, attribute) != getattr(manifest, attribute):
                raise DatasetError(
                    f"stream.mix: {location} has {difference} than {manifest.location}, so its "
                    "rows have another meaning; prepare it with the same corpus.tokenizer and "
                    "corpus.label_names as that dataset"
                )
        mixed.append(other)
    return mixed


def _with_cache(store: Store, manifest: Manifest, settings: StreamSettings) -> Store:
    """Wrap a dataset's store in a read cache if it is a URL and `settings.cache` is set."""
    if not settings.cache or not is_url(manifest.location):
        return store
    from pipeline.storage.cache import CachedStore

    return CachedStore(
        store,
        Path(settings.cache).expanduser(),
        int(settings.cache_gb * GB),
        namespace=manifest.fingerprint[:16],
        whole_files=settings.cache_shards,
    )
