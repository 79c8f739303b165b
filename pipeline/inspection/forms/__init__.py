"""The forms of the built-in tasks, one module each, named as in `task.name`."""
