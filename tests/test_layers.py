"""The rules of docs/ARCHITECTURE.md that a file's syntax can show, and what may not be loaded when a command starts."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import diapir

PACKAGE = Path(diapir.__file__).parent

# From the top down: a part imports only from rows below its own. Parts on one row do not know each other.
ROWS = (
    {"__main__"},
    {"cli"},
    {"cli_data", "cli_review", "cli_survey"},
    {"review"},
    {"volume"},
    {"pipeline"},
    {"train", "predict"},
    {"data", "nets", "losses", "metrics"},
    {"recipe"},
    {"record"},
    {"runs"},
    {"faults", "processor", "__init__"},
)
RANKS = {part: -row for row, parts in enumerate(ROWS) for part in parts}
# The command line alone imports inside functions, so that `diapir --help` needs no torch.
LATE_IMPORTERS = {"cli", "cli_data", "cli_review", "cli_survey"}
# Packages of an extra may be absent, and are loaded by name where a user asks for them.
EXTRAS_LOADERS = {Path("train/tracking.py"), Path("pipeline/onnx_files.py")}
FORBIDDEN_NAMES = {"utils", "helpers", "core", "common", "base", "misc", "manager", "engine", "registry", "factory"}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# Calls that read pickles or build any object a file asks for.
UNSAFE_CALLS = {"torch.load", "torch.hub.load", "torch.jit.load", "pandas.read_pickle"}
UNSAFE_CALLS |= {"yaml.unsafe_load", "yaml.full_load", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.Loader"}
LONGEST_FILE, LONGEST_BODY, FEWEST_FILES = 400, 60, 3
# What commands load before they know that they need torch.
LIGHT_PARTS = ("cli", "cli_data", "cli_review", "cli_survey", "faults", "processor", "runs", "record", "recipe", "data")
# In one process, for starting one for each takes longer than all their imports.
IMPORT_EACH = """
import importlib
for name in {names}:
    try:
        importlib.import_module(name)
    except ImportError:
        print(name)
"""
LIGHT_FILES = [
    path.relative_to(PACKAGE)
    for part in LIGHT_PARTS
    for path in (PACKAGE / f"{part}.py", *sorted((PACKAGE / part).glob("*.py")))
    if path.exists()
]


def test_the_package_keeps_every_rule() -> None:
    assert list(broken_rules(PACKAGE)) == []


def test_help_needs_no_torch() -> None:
    answer = run_without_torch("from diapir.cli import main; sys.argv = ['diapir', '--help']; main()")
    assert answer.returncode == 0, answer.stderr
    assert "Usage" in answer.stdout


def test_commands_start_without_torch() -> None:
    names = [".".join(("diapir", *path.with_suffix("").parts)) for path in LIGHT_FILES]
    answer = run_without_torch(IMPORT_EACH.format(names=names))
    assert (answer.stdout, answer.stderr) == ("", ""), "not to be imported without torch"


def test_an_import_of_torch_is_noticed() -> None:
    answer = run_without_torch(IMPORT_EACH.format(names=["diapir.faults", "diapir.losses", "diapir.metrics"]))
    assert answer.stdout.split() == ["diapir.losses", "diapir.metrics"]


def run_without_torch(code: str) -> subprocess.CompletedProcess[str]:
    # None in sys.modules makes every import of the name fail.
    code = f"import sys; sys.modules['torch'] = None\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("losses.py", "from diapir.train import loop", "losses.py:1: imports diapir.train, which is not below losses"),
        ("losses.py", "from .train import loop", "losses.py:1: imports diapir.train,"),
        ("losses.py", "import diapir.metrics", "losses.py:1: imports diapir.metrics,"),
        ("runs.py", "from diapir import nets", "runs.py:1: imports diapir.nets,"),
        ("train/fit.py", "\nfrom ..predict.infer import x", "train/fit.py:2: imports diapir.predict,"),
        ("data/tgs.py", "if TYPE_CHECKING:\n    import diapir.cli", "data/tgs.py:2: imports diapir.cli,"),
        ("losses.py", "import_module('diapir.cli')", "losses.py:1: imports by a computed name"),
        ("faults.py", "import diapir.novel", "faults.py:1: imports diapir.novel, which has no row"),
        ("novel.py", "", "novel.py: has no row"),
        ("runs.py", "def f():\n    import json", "runs.py:2: imports inside a function"),
        (
            "runs.py",
            "async def f():\n    if 1:\n        from json import loads",
            "runs.py:3: imports inside a function",
        ),
        ("data/utils.py", "", "data/utils.py: the name utils says nothing"),
        ("train/core.py", "", "train/core.py: the name core says nothing"),
        ("runs.py", "import pickle", "runs.py:1: pickle runs code"),
        ("runs.py", "from joblib.numpy_pickle import load", "runs.py:1: joblib runs code"),
        ("losses.py", "import torch\nx = torch.load('x')", "losses.py:2: torch.load"),
        ("losses.py", "import torch as t\nx = t.load('x')", "losses.py:2: torch.load"),
        ("losses.py", "from torch import load as read\nread('x')", "losses.py:2: torch.load"),
        ("runs.py", "import yaml\nyaml.load(x, Loader=yaml.Loader)", "runs.py:2: yaml.Loader"),
        ("runs.py", "import numpy as np\nnp.load('x', allow_pickle=True)", "runs.py:2: allow_pickle"),
        ("runs.py", "import numpy as np\nnp.load('x', allow_pickle=flag)", "runs.py:2: allow_pickle"),
        ("runs.py", "x = 1\n" * 401, "runs.py: 401 lines, 400 is the end"),
        ("runs.py", "def f():\n" + "    x = 1\n" * 61, "runs.py:1: the body of f has 61 lines, 60 is the end"),
        ("volume/a.py", "", "volume: a folder needs 3 or more files, found 1"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, path: str, source: str, fault: str) -> None:
    write_good_tree(tmp_path)
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(source)
    found = list(broken_rules(tmp_path))
    assert len(found) == 1, found
    assert found[0].startswith(fault)


def test_a_good_tree_has_no_fault(tmp_path: Path) -> None:
    write_good_tree(tmp_path)
    assert list(broken_rules(tmp_path)) == []


def write_good_tree(root: Path) -> None:
    files = {
        "__init__.py": "",
        "cli.py": "import diapir.faults\ndef run():\n    from diapir.train.fit import fit",
        "train/fit.py": "import torch\nfrom diapir import __version__, runs\nfrom diapir.train import loop",
        "train/loop.py": "from ..losses import bce\nfrom .schedules import cosine",
        "train/tracking.py": "import importlib\nimportlib.import_module('mlflow')",
        "train/schedules.py": "import numpy as np\nx = np.load('x', allow_pickle=False)",
        "losses.py": "def load():\n    '''Text.'''\n" + "    x = 1\n" * 60,
        "data/a.py": "from diapir.data.b import x",
        "data/b.py": "",
        "data/c.py": "",
    }
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)


def broken_rules(package: Path) -> Iterator[str]:
    """Every broken rule of a package's files, one line each, with file and line."""
    files = sorted(package.rglob("*.py"))
    for file in files:
        path = file.relative_to(package)
        source = file.read_text(encoding="utf-8")
        tree = ast.parse(source)
        part = path.parts[0].removesuffix(".py")
        yield from (f"{path}: the name {name} says nothing" for name in _names(path) & FORBIDDEN_NAMES)
        if part not in RANKS:
            yield f"{path}: has no row in ROWS of tests/test_layers.py; give {part} one"
            continue
        yield from (f"{path}:{line}: {fault}" for line, fault in _faults_of_imports(tree, part=part, path=path))
        yield from (f"{path}:{line}: {fault}" for line, fault in _faults_of_loading(tree, path=path))
        yield from _faults_of_size(tree, num_lines=len(source.splitlines()), path=path)
    for folder in sorted({file.parent for file in files} - {package}):
        own = [file for file in folder.glob("*.py") if file.stem != "__init__"]
        if len(own) < FEWEST_FILES:
            yield f"{folder.relative_to(package)}: a folder needs {FEWEST_FILES} or more files, found {len(own)}"


def _names(path: Path) -> set[str]:
    return {*path.parent.parts, path.stem}


def _faults_of_imports(tree: ast.Module, *, part: str, path: Path) -> Iterator[tuple[int, str]]:
    late = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        computed = {"__import__"} if path in EXTRAS_LOADERS else {"__import__", "import_module"}
        if isinstance(node, ast.Call) and _last_name(node.func) in computed:
            yield node.lineno, "imports by a computed name, which hides the direction; write the import"
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if id(node) in late and part not in LATE_IMPORTERS:
            yield node.lineno, "imports inside a function; only the command line may"
        for other in {found.split(".")[1] for found in _modules(node, path=path) if found.startswith("diapir.")}:
            if other not in RANKS:
                yield node.lineno, f"imports diapir.{other}, which has no row in ROWS of tests/test_layers.py"
            elif other != part and RANKS[other] >= RANKS[part]:
                yield node.lineno, f"imports diapir.{other}, which is not below {part}"


def _modules(node: ast.Import | ast.ImportFrom, *, path: Path) -> list[str]:
    """Full names that an import reads; `from diapir import x` is diapir.x, and diapir.__init__ for a plain name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    above = ["diapir", *path.parent.parts]
    start = above[: len(above) + 1 - node.level] if node.level else []
    module = ".".join([*start, *([node.module] if node.module else [])])
    if module != "diapir":
        return [module]
    return ["diapir.__init__" if alias.name.startswith("__") else f"diapir.{alias.name}" for alias in node.names]


def _faults_of_loading(tree: ast.Module, *, path: Path) -> Iterator[tuple[int, str]]:
    meanings: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in {module.split(".")[0] for module in _modules(node, path=path)} & PICKLES:
                yield node.lineno, f"{name} runs code that a file brings; use safetensors, npy, JSON"
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            meanings |= {alias.asname or alias.name.split(".")[0]: _meaning(alias, prefix) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, dot, rest = ast.unparse(node).partition(".")
            full = meanings.get(first, first) + dot + rest
            if full in UNSAFE_CALLS:
                yield node.lineno, f"{full} runs code that a file brings; use safetensors, npy, JSON"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield node.value.lineno, "allow_pickle must be False: a pickle runs code that a file brings"


def _meaning(alias: ast.alias, prefix: str) -> str:
    return prefix + (alias.name if alias.asname or prefix else alias.name.split(".")[0])


def _faults_of_size(tree: ast.Module, *, num_lines: int, path: Path) -> Iterator[str]:
    if num_lines > LONGEST_FILE:
        yield f"{path}: {num_lines} lines, {LONGEST_FILE} is the end"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            size = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if size > LONGEST_BODY:
                yield f"{path}:{node.lineno}: the body of {node.name} has {size} lines, {LONGEST_BODY} is the end"


def _last_name(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]
