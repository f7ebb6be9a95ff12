"""One golden data set through every form of a model, each compared with the saved Spark pipeline itself."""
