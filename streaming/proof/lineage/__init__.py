"""One event: the answers it got, and the same asked again."""
