"""The house rules as tests: public names, sizes, forbidden calls, imports, pins."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import amft

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "amft"
FILES = sorted(SRC.rglob("*.py"))

PUBLIC = [
    "AMFTConfig",
    "AMFTError",
    "AMFTTrainer",
    "Recipe",
    "__version__",
    "build_balance",
    "build_task",
    "build_trainer",
    "load_recipe",
]
TORCH_FREE = ("tasks", "stats", "report", "runs", "types", "errors")
SEEDED = {"getstate", "Random", "Generator", "BitGenerator", "SeedSequence", "PCG64", "Philox", "default_rng"}
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "multinomial", "bernoulli", "normal"}
TENSOR_DRAWS = {"uniform_", "normal_", "bernoulli_", "exponential_", "random_", "geometric_", "trunc_normal_"}
SEEDING = {"manual_seed", "manual_seed_all", "seed_all", "set_seed", "set_rng_state"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNPICKLER = "src/amft/tasks/navigation/unpickling.py"
"""The one file that may import pickle: it reads plain values only, and only when asked to."""
HUB = "src/amft/models/hub.py"
"""The one file that may import huggingface_hub itself: it pushes a model, and only when asked to."""
NETWORK = {"requests", "urllib", "urllib3", "http", "httpx", "aiohttp", "ftplib", "smtplib", "huggingface_hub"}
DRAWERS = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}

VLLM = "src/amft/rollout/vllm_client.py"  # the server that a run asks for
EXCEPTIONS = (
    (UNPICKLER, "import pickle"),
    (HUB, "import huggingface_hub"),
    (VLLM, "import http.client"),
    (VLLM, "import urllib.parse"),
)
IN_VLLM = "src/amft/rollout/file_transfer.py"  # vLLM imports it, and nobody else

Rule = Callable[[ast.Module], Iterator[tuple[int, str]]]


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every absolute import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module or ""


def keywords(call: ast.Call) -> dict[str | None, ast.expr]:
    return {keyword.arg: keyword.value for keyword in call.keywords}


def runs_text(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Anything that runs text, unpickles, or trusts code that came with a model."""
    for call in calls(tree):
        name = ast.unparse(call.func)
        if name in ("eval", "exec", "compile", "__import__", "torch.load", "os.system"):
            yield call.lineno, f"{name}("
        for word in ("trust_remote_code", "allow_pickle", "shell"):
            given = keywords(call).get(word)
            if given is not None and not (isinstance(given, ast.Constant) and given.value is False):
                yield call.lineno, f"{word}={ast.unparse(given)}"
    for line, module in imported(tree):
        if module.split(".")[0] in UNSAFE_MODULES:
            yield line, f"import {module}"


def reaches_the_network(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, module in imported(tree):
        if module.split(".")[0] in NETWORK:
            yield line, f"import {module}"


def uses_global_randomness(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A draw without an explicit generator, or a global seed outside `torch.random.fork_rng`."""
    forked = {
        id(call)
        for block in ast.walk(tree)
        if isinstance(block, ast.With) and any("fork_rng" in ast.unparse(item.context_expr) for item in block.items)
        for call in calls(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
            yield from (
                (node.lineno, f"from {node.module} import {a.name}") for a in node.names if a.name not in SEEDED
            )
    for call in calls(tree):
        name = ast.unparse(call.func)
        owner, _, last = name.rpartition(".")
        explicit = "generator" in keywords(call)
        if (
            (owner in ("random", "np.random", "numpy.random") and last not in SEEDED)
            or (owner == "torch" and last in TORCH_DRAWS and not explicit)
            or (owner and last in TENSOR_DRAWS and not explicit)
            or (last in SEEDING and "generator" not in owner.lower() and id(call) not in forked)
        ):
            yield call.lineno, f"{name}("


def is_unfinished(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc):
            yield node.lineno, "raise NotImplementedError"


def has_long_functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > 60:
                yield node.lineno, f"{node.name} has {lines} lines"


def raises_unsaid(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A public function, or a public class's public method, whose docstring is silent about the error that it raises.

    A command's docstring is its help, which speaks of the command line.
    """
    if any(module == "typer" for _, module in imported(tree)):
        return
    for owner in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")):
        for node in (node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"):
            said = ast.get_docstring(node) or ""
            for found in ast.walk(node):
                name = (
                    "" if not isinstance(found, ast.Raise) else ast.unparse(found.exc or ast.Constant("")).split("(")[0]
                )
                if name.endswith("Error") and name != "AssertionError" and not re.search("[Rr]aise|refus", said):
                    yield found.lineno, f"{node.name} does not say that it raises {name}"


RULES: dict[Rule, list[str]] = {
    runs_text: [
        "eval('1')",
        "exec(text)",
        "import pickle",
        "from dill import loads",
        "torch.load(path, weights_only=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)",
        "np.load(path, allow_pickle=True)",
    ],
    reaches_the_network: ["import requests", "from urllib.request import urlopen", "import huggingface_hub as hub"],
    uses_global_randomness: [
        "random.random()",
        "from random import shuffle",
        "np.random.choice(rows)",
        "torch.randn(3)",
        "torch.multinomial(p, 1)",
        "weights.normal_(0, 1)",
        "torch.manual_seed(0)",
        "transformers.set_seed(0)",
    ],
    is_unfinished: ["raise NotImplementedError", "raise NotImplementedError('later')"],
    has_long_functions: ["def f():\n" + "    x = 1\n" * 60],
    raises_unsaid: [
        "def f():\n    raise DataError('x')",
        "class A:\n    def f(self):\n        'Reads.'\n        raise DataError('x')",
    ],
}
ALLOWED = (
    """
model.eval()
random.Random(seed).shuffle(rows)
np.random.default_rng(seed).choice(rows)
torch.randn(3, generator=generator)
AutoModel.from_pretrained(name, trust_remote_code=False)
generator.manual_seed(seed)
with torch.random.fork_rng():
    torch.manual_seed(seed)
spec.loader.exec_module(module)
def _f():
    raise DataError('x')
def g():
    "Raises: DataError: always."
    raise DataError('x')
def f():
"""
    + "    x = 1\n" * 59
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_sees_what_it_forbids_and_nothing_else(rule: Rule) -> None:
    for text in RULES[rule]:
        assert list(rule(ast.parse(text))), f"{rule.__name__} does not see: {text[:40]}"
    assert list(rule(ast.parse(ALLOWED))) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_source_obeys(rule: Rule) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in FILES
        for line, what in rule(ast.parse(path.read_text(encoding="utf-8")))
        if (str(path.relative_to(ROOT)), what) not in EXCEPTIONS
    ]
    assert found == []


def test_files_are_small_and_named_for_an_idea() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in sizes.items() if lines > 350} == {}
    assert [name for name in sizes if Path(name).name in DRAWERS] == []


def test_public_names_are_frozen_and_resolve() -> None:
    assert sorted(amft.__all__) == sorted(amft._HOMES.keys() | {"__version__"}) == PUBLIC
    assert dir(amft) == PUBLIC
    for name in PUBLIC:
        assert getattr(amft, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = amft.nonsense


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_fast() -> None:
    code = "import time; start = time.perf_counter(); import amft; print(time.perf_counter() - start)"
    assert min(float(python(code)) for _ in range(3)) < 0.3


def test_torch_free_floors_import_no_torch() -> None:
    names = [
        ".".join(("amft", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")
        for path in FILES
        if path.relative_to(SRC).with_suffix("").parts[0] in TORCH_FREE
    ]
    assert len(names) > 10
    python(
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )


def declared(section: str) -> set[str]:
    """Distribution names in one list of pyproject.toml, normalised."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    body = re.search(rf"^{section} = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert body is not None, section
    return {re.split(r"[<>=;\s]", item)[0].lower().replace("_", "-") for item in re.findall(r'"([^"]+)"', body[1])}


def test_module_level_imports_are_declared_dependencies() -> None:
    """An optional extra is imported inside the function that needs it."""
    allowed = {{"pyyaml": "yaml", "pillow": "PIL"}.get(name, name) for name in declared("dependencies")}
    found = []
    for path in (path for path in FILES if str(path.relative_to(ROOT)) != IN_VLLM):
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        top = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
        for line, module in imported(ast.Module(top, [])):
            name = module.split(".")[0]
            if name not in allowed | sys.stdlib_module_names | {"amft"}:
                found.append(f"{path.relative_to(ROOT)}:{line}: import {module}")
    assert found == []


def test_constraints_pin_what_is_declared() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split(";")[0].strip() for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", pin)] == []
    names = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    assert declared("dependencies") | declared("dev") <= names
    assert "torch==2.13.0" in pins


def test_test_files_have_names_of_their_own() -> None:
    """Two test modules of one name cannot be collected in one run."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
