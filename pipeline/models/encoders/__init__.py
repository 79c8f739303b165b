"""The built-in encoders, one module each, named as in `model.encoder`."""
