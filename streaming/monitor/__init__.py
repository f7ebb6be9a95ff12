"""What the running job says of itself: figures per lane and batch."""
