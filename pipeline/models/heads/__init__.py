"""The built-in output heads, one module each, named as in `model.head`."""
