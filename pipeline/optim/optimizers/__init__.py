"""Optimizers that are built in, one per module; `train.optimizer` chooses one."""
