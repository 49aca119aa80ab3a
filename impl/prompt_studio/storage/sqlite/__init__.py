"""The SQLite backend: one file, one writer at a time, any number of readers. Only this package imports sqlite3."""
