"""From labelled rows to a learner's next version: summaries, states, and the files that publish them."""
