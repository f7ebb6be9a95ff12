"""The streaming queries of the job: their guarantees and their wiring."""
