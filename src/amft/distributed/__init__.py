"""Several processes: ranks, how a model lies on them, who computes which rows."""
