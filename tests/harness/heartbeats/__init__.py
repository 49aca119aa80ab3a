"""Trials of workers in real processes and real time: who kept which lease, and when it was taken from whom."""
