"""Settings of the optimizer and of the learning-rate schedule."""

from pipeline.settings import Section, setting


class OptimizerSettings(Section):
    """Part of the section `train`. Rates and decays are AdamW's; epochs may be fractions."""

    lr: float = setting(1e-3, "peak learning rate", gt=0)
    warmup: float = setting(0.05, "share of all rows used for linear warm-up", ge=0, lt=1)
    min_lr_ratio: float = setting(
        0.0, "final learning rate of the cosine decay, relative to the peak", ge=0, le=1
    )
    weight_decay: float = setting(0.01, "AdamW weight decay of matrices, except embeddings", ge=0)
    embedding_decay: float = setting(
        0.0, "AdamW weight decay of embeddings; makes the model forget rare tokens", ge=0
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
        "epochs between unfreezing one layer and the next, from the top down, the embedding last; "
        "0: all layers train from the start",
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
