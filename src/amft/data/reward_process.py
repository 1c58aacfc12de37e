"""The other process of an `IsolatedReward`: imports one function, then answers calls until its input ends."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

from ..errors import AMFTError
from .reward_calls import call_functions
from .rewards import load_reward


def main(reference: str) -> None:
    """Answer one line of JSON with one line of JSON. Args: reference: `path/to/file.py:function`."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the function prints is no answer

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        function = load_reward(reference)
    except AMFTError as error:
        tell({"error": str(error)})
        return
    tell({})
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            (values,) = call_functions([function], arguments, len(arguments["completions"])).values()
            tell({"values": [None if math.isnan(value) else value for value in values]})
        except AMFTError as error:
            tell({"error": str(error)})


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except OSError:  # nobody listens any more, or the function closed what it was not given
        os._exit(1)
