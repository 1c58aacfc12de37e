"""A worker whose engine is a line of arithmetic, so that what goes over the connection can be tested without vLLM."""

import os
import time
from pathlib import Path

from amft.errors import ModelError
from amft.rollout.vllm_worker import run


class FakeEngine:
    """Token j of a row is its seed + the sum of the weights + j."""

    longest = 50

    def __init__(self, config, **settings):
        self.config = config
        (Path(config["folder"]) / f"{time.time_ns()}.pid").write_text(str(os.getpid()))
        if config.get("refuses"):
            raise ModelError("engine vllm: the model cannot be loaded (it is a fake)")

    def sample(self, weights, request):
        given = {name: float(value.double().sum()) for name, value in weights}
        if "bad" in given:
            raise ModelError("engine vllm: the weights cannot be pushed (bad)")
        total = int(sum(given.values()))
        return [
            ([seed + total + j for j in range(request["max_tokens"])], False, [-0.1] * request["max_tokens"])
            for seed in request["seeds"]
        ]


if __name__ == "__main__":
    run(FakeEngine)
