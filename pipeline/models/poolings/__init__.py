"""The built-in poolings, one module each, named as in `model.pooling`."""
