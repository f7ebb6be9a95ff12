"""One data set through every form of a model."""
