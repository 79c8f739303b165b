"""The built-in metrics, one module each, named as in `task.metrics`."""
