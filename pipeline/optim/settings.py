"""Settings of the optimizer and of the learning-rate schedule."""

from pipeline.settings import Section, setting


class OptimizerSettings(Section):
    lr: float = setting(1e-3, "peak learning rate", gt=0)
    warmup: float = setting(0.05, "share of all rows over which the rate rises", ge=0, lt=1)
    min_lr_ratio: float = setting(
        0.0, "learning rate at the end of the cosine decay, as a share of the peak", ge=0, le=1
    )
    weight_decay: float = setting(
        0.01, "AdamW weight decay of matrices other than embeddings", ge=0
    )
    embedding_decay: float = setting(
        0.0, "AdamW weight decay of embeddings: forgets rare tokens", ge=0
    )
    layer_decay: float = setting(
        1.0,
        "learning rate of each recurrent layer, and of the embedding below it, as a share of that "
        "of the layer above (ULMFiT: 0.38)",
        gt=0,
        le=1,
    )
    unfreeze: float = setting(
        0.0,
        "epochs after which one more layer, from the top down, starts to train, the embedding "
        "last; 0: all layers train from the start",
        ge=0,
    )
    max_grad_norm: float = setting(
        1.0, "gradient norm above which gradients are clipped; 0: no clipping", ge=0
    )
    ema_decay: float = setting(
        0.0,
        "EMA decay per update; the EMA weights are evaluated and saved; 0 disables",
        ge=0,
        lt=1,
    )
