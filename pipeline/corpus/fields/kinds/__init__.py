"""The built-in kinds of fields, one module each, named as in `FieldSpec.kind`."""
