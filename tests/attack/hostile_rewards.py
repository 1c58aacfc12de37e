"""Reward functions that do what they should not. Each is a body; `END` is what the run must come to."""

from __future__ import annotations

HONEST = "return [1.0] * n"

RAISES = {
    "value error": "raise ValueError('a\\nb\\x1b[31m')",
    "key error": "return {}['x']",
    "assertion": "assert False",
    "zero division": "return [1 / 0]",
    "deep": "def deep(): return deep()\n    deep()",
    "memory": "raise MemoryError",
    "stop iteration": "raise StopIteration",
    "generator exit": "raise GeneratorExit",
    "exit 0": "raise SystemExit(0)",
    "exit": "import sys; sys.exit()",
    "exit with text": "import sys; sys.exit('bye')",
    "hard exit": "import os; os._exit(0)",
    "quit": "import builtins; raise builtins.SystemExit",
    "cancelled": "import asyncio; raise asyncio.CancelledError",
    "own base": "class Own(BaseException): pass\n    raise Own('x')",
    "mute": "class Mute(Exception):\n        def __str__(self): raise ValueError\n    raise Mute",
    "surrogate": "raise ValueError('\\ud800')",
    "long": "raise ValueError('x' * 100000)",
    "timeout": "raise TimeoutError",
    "os error": "open('/nowhere/at/all')",
    "import error": "import nothing_of_the_kind",
    "warning": "raise UserWarning",
    "nested": "try: 1 / 0\n    except Exception as e: raise KeyError from e",
}
RETURNS = {
    "none": "return None",
    "text": "return 'text'",
    "number": "return 1.0",
    "dict": "return {i: 1.0 for i in range(n)}",
    "generator": "return (1.0 for _ in range(n))",
    "range": "return range(n)",
    "too few": "return [1.0] * (n - 1)",
    "too many": "return [1.0] * (n + 1)",
    "empty": "return []",
    "nested": "return [[1.0]] * n",
    "texts": "return ['1.0'] * n",
    "complex": "return [1j] * n",
    "objects": "return [object()] * n",
    "hostile float": "class F:\n        def __float__(self): raise ValueError\n    return [F()] * n",
    "hostile item": "class F:\n        shape = ()\n        def item(self): raise SystemExit(0)\n    return [F()] * n",
    "hostile list": "class L:\n        def tolist(self): raise SystemExit(0)\n    return L()",
    "hostile length": "class L(list):\n        def __len__(self): raise SystemExit(0)\n    return L([1.0] * n)",
    "hostile repr": "class R:\n        def __str__(self): raise SystemExit(0)\n    return [R()] * n",
    "nan": "return [float('nan')] * n",
    "inf": "return [float('inf')] * n",
    "1e308": "return [1e308] * n",
    "huge": "return [10 ** 400] * n",
    "tensor of nan": "import torch; return torch.full((n,), torch.nan)",
    "matrix": "import numpy; return numpy.ones((n, 2))",
}
HANGS = {
    "sleep": "import time; time.sleep(900)",
    "spin": "while True: pass",
    "regex": "import re; re.match('(a+)+$', 'a' * 50 + 'b')",
    "lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "child": "import subprocess; subprocess.run(['sleep', '900'])",
    "endless list": "class L(list):\n        def __iter__(self):\n            while 1: yield 1\n    return L([1] * n)",
    "swallow": "import time\n    while True:\n        try: time.sleep(900)\n        except Exception: pass",
    "queue": "import queue; queue.Queue().get()",
    "socket": "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); s.accept()",
}
MEDDLES = {
    "chdir": "import os; os.chdir('/')",
    "handlers": "import signal\n    for number in (2, 15): signal.signal(number, signal.SIG_IGN)",
    "seeds": "import torch, random; torch.manual_seed(n); random.seed(n)",
    "no gradients": "import torch; torch.set_grad_enabled(False)",
    "double": "import torch; torch.set_default_dtype(torch.float64)",
    "no stdout": "import sys; sys.stdout = None",
    "closed stdout": "import sys, io; sys.stdout = io.StringIO(); sys.stdout.close()",
    "arguments": "completions.clear(); columns['answer'].clear(); prompts.clear()",
    "messages": "for c in completions: c[0]['content'] = 7",
    "environment": "import os; os.environ.pop('HOME', None)",
    "thread": "import threading; threading.Thread(target=lambda: None).start()",
    "alarm": "import signal; signal.alarm(100); signal.alarm(0)",
    "recursion": "import sys; sys.setrecursionlimit(sys.getrecursionlimit() + 1)",
    "all abstain": "return [None] * n",
    "some abstain": "return [None] + [1.0] * (n - 1)",
    "booleans": "return [True] * n",
    "prints": "print('\\x1b[2J' * 10)",
}
"""Each ends a run well: the honest answer follows where none is given."""

ISOLATED = {
    "vanish": "import ctypes; ctypes.CDLL(None)._exit(0)",
    "abort": "import os; os.abort()",
    "kill": "import os; os.kill(os.getpid(), 9)",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "exit 0": "raise SystemExit(0)",
    "arithmetic": "pow(7, 10 ** 9)",
    "grandchild": "import subprocess; subprocess.Popen(['sleep', '901']); pow(7, 10 ** 9)",
    "garbage": "import os; os.write(1, b'garbage\\n'); raise ValueError",
    "close": "import os; os.closerange(3, 100); raise ValueError",
    "nonsense": "return [object()]",
    "nan": "return [float('nan')] * n",
}
IMPORTS = {
    "syntax": "def (",
    "raises": "1 / 0",
    "exits": "import sys; sys.exit(0)",
    "hangs": "import time; time.sleep(900)",
    "nothing": "",
    "no function": "reward = 7",
    "a class": "class reward:\n    def __init__(self, **k): raise SystemExit(0)",
    "other arguments": "def reward(only): return []",
    "signature": "class R:\n    def __call__(self, **k): pass\n    __signature__ = 7\nreward = R()",
    "name": "class R:\n    __name__ = 7\n    def __call__(self, **k): raise ValueError\nreward = R()",
}
"""Whole files."""


def source(body: str, kind: str = "def") -> str:
    """A file with the reward function of this body."""
    lines = f"    n = len(completions)\n    {body}\n    {HONEST}\n"
    return f"{kind} reward(prompts, completions, **columns):\n{lines}"
