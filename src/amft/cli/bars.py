"""transformers draws a bar for every file it loads or saves; among our own lines they are noise."""

from __future__ import annotations


def hide_loading_bars() -> None:
    """Keep transformers' own progress bars off the terminal, for this process."""
    from transformers.utils import logging

    logging.disable_progress_bar()
