"""L3: real processes that nobody schedules, and judges of what they recorded."""
