"""Files, or a range of the topic, scored as the stream would score them."""
