"""Scores over HTTP: a saved model behind REST, the Open Inference Protocol and a page for people. No Spark while it answers."""
