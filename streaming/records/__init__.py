"""What stands on topics and in tables, read and written in one place for each kind of record."""
