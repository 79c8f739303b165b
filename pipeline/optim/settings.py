"""Settings of the optimizer and of the learning-rate schedule."""

from pipeline.settings import Section, setting


class OptimizerSettings(Section):
    """AdamW with gradient clipping, linear warm-up and cosine decay.

    Optionally with learning rates by layer, gradual unfreezing and an average of the weights.
    """

    lr: float = setting(1e-3, "peak learning rate", gt=0)
    warmup: float = setting(
        0.05,
        "fraction of training, in rows, over which the learning rate rises linearly",
        ge=0,
        lt=1,
    )
    min_lr_ratio: float = setting(
        0.0, "final learning rate of the cosine decay, relative to the peak", ge=0, le=1
    )
    weight_decay: float = setting(
        0.01, "AdamW weight decay of matrices other than embeddings; vectors have none", ge=0
    )
    embedding_decay: float = setting(
        0.0, "AdamW weight decay of embeddings; pulls those of rare tokens towards 0", ge=0
    )
    layer_decay: float = setting(
        1.0,
        "learning rate of each recurrent layer relative to the layer above; the embedding counts "
        "as the lowest layer (ULMFiT: 0.38)",
        gt=0,
        le=1,
    )
    unfreeze: float = setting(
        0.0,
        "ULMFiT's gradual unfreezing: epochs from one layer to the next, from the top down, the "
        "embedding last; 0: all layers train from the start",
        ge=0,
    )
    max_grad_norm: float = setting(
        1.0, "L2 norm of all gradients above which they are scaled down; 0: no clipping", ge=0
    )
    ema_decay: float = setting(
        0.0,
        "decay per update of an exponential moving average (EMA) of the weights, which is then "
        "evaluated and saved as the model; 0: no average",
        ge=0,
        lt=1,
    )
