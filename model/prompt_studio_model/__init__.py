"""The rules of the job queue as a pure state machine, which the real stores are checked against."""
