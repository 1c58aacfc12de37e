"""Uncertainty of measured success. numpy only."""

from .bootstrap import Interval, clustered_interval, paired_difference, success_difference, success_interval

__all__ = ["Interval", "clustered_interval", "paired_difference", "success_difference", "success_interval"]
