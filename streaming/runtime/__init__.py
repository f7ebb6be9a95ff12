"""What a job stands on: Java, the pinned jars, the Spark session, folders of small files."""
