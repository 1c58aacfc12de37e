"""Answers of a saved model to held-out problems, and what they score."""
