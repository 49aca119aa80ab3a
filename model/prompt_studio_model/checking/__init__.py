"""Checking machinery that knows nothing of jobs: properties and exhaustive exploration."""
