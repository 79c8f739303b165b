"""Trackers that are built in, one per module; `track.trackers` chooses some."""
