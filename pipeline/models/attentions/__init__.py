"""The built-in attentions, one module each, named as in `model.attention`."""
