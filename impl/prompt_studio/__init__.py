"""The job queue of Prompt Studio: leases, fencing tokens and idempotency keys on an SQL database."""
