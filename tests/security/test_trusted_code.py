"""Nothing that is read from disk or network can run code: by the syntax tree of every module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path for part in ("orchestrator", "trainables", "search_spaces", "benchmarks")
    for path in (ROOT / part).rglob("*.py")
)  # fmt: skip
IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
NAMES = {"eval", "exec", "compile", "__import__"}
CALLS = {
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all",
    "torch.load", "torch.hub.load", "torch.jit.load", "pd.read_pickle", "pandas.read_pickle",
    "joblib.load", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "pd.eval", "np.fromregex",
}  # fmt: skip
CODE = {"importlib.util.spec_from_file_location", "spec.loader.exec_module"}
EXCEPTIONS = {
    # the command that the user gives to --notify, as a shell would run it
    ("orchestrator/watching/notify.py", "shell=True"),
    # the loader is a subclass of the safe one, and tests/hostile shows that it makes no objects
    ("trainables/yaml_text.py", "yaml.load"),
    # our own benchmark beside it, by its path
    ("benchmarks/aa_null.py", "importlib.util.spec_from_file_location"),
    ("benchmarks/aa_null.py", "spec.loader.exec_module"),
    # a space given as FILE.py:FUNCTION is code, and docs/contracts.md says so
    ("orchestrator/spaces.py", "importlib.util.spec_from_file_location"),
    ("orchestrator/spaces.py", "spec.loader.exec_module"),
}


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an attribute or name, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and dotted(node.value):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def findings(source: str, path: str) -> set[tuple[str, str]]:
    """(module, what) of everything in a source that may run what it reads."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(path, a.name) for a in node.names if a.name.partition(".")[0] in IMPORTS}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in IMPORTS:
                found.add((path, node.module))
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in NAMES | CALLS | CODE:
                found.add((path, name))
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if keyword.arg in ("shell", "allow_pickle") and value is not False:
                    found.add((path, f"{keyword.arg}={ast.unparse(keyword.value)}"))
                if keyword.arg == "weights_only" and value is not True:
                    found.add((path, "weights_only"))
            given = {keyword.arg for keyword in node.keywords}
            if name.endswith((".get_state_dict", "load_state_dict_from_url")):
                found |= set() if "weights_only" in given else {(path, name)}
            if name in ("np.load", "numpy.load") and "allow_pickle" not in given:
                found.add((path, "np.load without allow_pickle=False"))
    return found


def test_no_module_runs_what_it_reads() -> None:
    found = set()
    for path in MODULES:
        found |= findings(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    assert len(MODULES) > 300
    assert found - EXCEPTIONS == set()
    assert EXCEPTIONS - found == set(), "an exception that is none any more"


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from joblib import load", "import dill as d", "eval(text)",
        "exec(text)", "yaml.load(text, yaml.Loader)", "torch.load(path)", "os.system(line)",
        "torch.load(path, weights_only=False)", "pd.read_pickle(path)", "np.load(path)",
        "np.load(path, allow_pickle=True)", "subprocess.run(line, shell=True)",
        "np.load(path, allow_pickle=asked)", "weights.get_state_dict(progress=False)",
    ],
)  # fmt: skip
def test_the_search_finds(line: str) -> None:
    assert findings(line, "x.py")


def test_what_is_loaded_safely_is_not_found() -> None:
    safe = "np.load(path, allow_pickle=False)\nyaml.safe_load(text)\njson.loads(text)\n"
    assert not findings(safe, "x.py")
