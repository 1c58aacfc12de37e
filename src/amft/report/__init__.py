"""What a run did, for people: diagnosis and one self-contained page, read from the run directory alone. No torch."""
