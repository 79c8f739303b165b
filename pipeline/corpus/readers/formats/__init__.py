"""The built-in readers, one module each, named as in `corpus.format`."""
