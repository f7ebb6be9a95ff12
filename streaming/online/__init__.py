"""Models that keep learning: pure arithmetic on NumPy arrays. No Spark, no files, no clocks."""
