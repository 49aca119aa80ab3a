"""The Postgres backend: many writers, row locks, advisory locks of a session. Only this package imports psycopg."""
