"""Headrace: distributed training of recurrent networks on large text corpora.

Data goes through the package once, downwards: corpus (raw files to shards), stream (shards to
batches), models (tensors to tensors), tasks (fields, model, loss, metrics), train (the loop).
"""

__version__ = "0.1.0"
