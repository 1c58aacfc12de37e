"""Settings of a run: what they are, and what is said when one is wrong."""
