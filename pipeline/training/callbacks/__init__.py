"""Callbacks that are built in, one per module; `train.callbacks` chooses some."""
