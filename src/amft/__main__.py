"""`python -m amft` is the command line."""

import atexit
import os
import sys

from .cli import main

code = main()
if os.environ.get("WORLD_SIZE", "1") != "1":
    # A worker thread of the process group that wants the interpreter while it is being taken down aborts the process
    # (exit code -6), and torchrun calls the run a failure: one of several ranks ends without taking it down.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
