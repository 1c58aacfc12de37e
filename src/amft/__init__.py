"""Adaptive Meta Fine-Tuning."""
