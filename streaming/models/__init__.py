"""A saved model scores a DataFrame."""
