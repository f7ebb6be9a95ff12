"""The long-running job: what it needs, how it starts, how its lanes are watched and stopped."""
