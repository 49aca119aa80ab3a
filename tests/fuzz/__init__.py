"""The nightly run: schedules for as long as one likes, and a corpus of those that reached something new."""
