"""From a table to a saved pipeline with its manifest."""
