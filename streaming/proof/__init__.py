"""Showing that answers are right: the same through every form of a model, and given again for one event."""
