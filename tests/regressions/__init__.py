"""Schedules that once showed a bug of our own, played in each run."""
