"""Operational stores: the newest prediction of every key and model."""
