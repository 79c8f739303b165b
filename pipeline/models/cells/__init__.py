"""Recurrent cells that are built in, one per module; `model.cell` chooses one."""
