"""Checkpoints on disk: whole or not there."""
