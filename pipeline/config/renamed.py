"""Renamed keys and values: old name -> new name. An old name is an error that names the new one."""

RENAMED_KEYS = {
    "corpus.joint": "corpus.shared_vocab",
    "corpus.keep": "corpus.truncation_side",
    "corpus.long_texts": "corpus.overflow",
    "corpus.max_skipped": "corpus.max_skipped_ratio",
    "corpus.piece_mb": "corpus.chunk_mb",
    "corpus.where": "corpus.filters",
    "model.activation_penalty": "model.ar_alpha",
    "model.backward": "model.reverse",
    "model.change_penalty": "model.tar_beta",
    "model.separate": "model.independent_directions",
    "model.vectors": "model.word_vectors",
    "stream.direct": "stream.unprepared_rows",
    "stream.max_corrupt": "stream.max_corrupt_ratio",
    "stream.micro_batches": "stream.accumulation_steps",
    "stream.stretch": "stream.bptt_length",
    "stream.window": "stream.shuffle_window",
    "task.beams": "task.beam_size",
    "task.best": "task.n_best",
    "task.forget": "task.state_reset_prob",
    "task.max_growth": "task.max_length_ratio",
    "task.write": "task.max_new_tokens",
    "train.average": "train.ema_decay",
    "train.clip": "train.max_grad_norm",
    "train.lr_end": "train.min_lr_ratio",
}

RENAMED_VALUES = {("task.name", "language_modelling"): "language_modeling"}
"""(key, old value) -> new value."""
