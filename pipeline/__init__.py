"""Headrace: distributed training of recurrent networks on large text corpora.

Data goes one way through the package, and imports go one way: corpus (raw files to shards), stream
(shards to batches), tasks and models (batches to losses and metrics), train (the loop). The map is
docs/architecture.md.
"""

__version__ = "0.2.0"
