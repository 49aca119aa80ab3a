"""Checking machinery that knows nothing of jobs: properties, exhaustive exploration, and histories of calls."""
