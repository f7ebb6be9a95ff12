"""Saved models in forms that score without Spark, each compared with the original before anybody gets it."""
