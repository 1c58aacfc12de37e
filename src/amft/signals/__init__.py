"""What a balance rule may read of a run: one object a signal, one file a signal. No torch."""
