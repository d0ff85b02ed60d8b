"""Spaces named on the command line, overrides, and functions that make a space."""

from __future__ import annotations

from hostile_case import Case, text


def _set(name: str, override: str, *says: str) -> Case:
    return Case(f"set: {name}", ("show", "quickstart", "--set", override), says)


def _function(name: str, code: str, *says: str) -> Case:
    return Case(f"function: {name}", ("show", "{}/mine.py:mine"), says, text("mine.py", code))


CASES = [
    Case("space: unknown name", ("show", "quikstart"), ("'quikstart'", "'quickstart'")),
    Case("space: name with a path", ("show", "../../etc/passwd"), ("unknown search space",)),
    Case("space: name of a module", ("show", "words"), ("unknown search space", "'words'")),
    Case("space: empty name", ("show", ""), ("unknown search space",)),
    Case("space: NUL in the name", ("show", "a\0.yaml"), ("a",)),
    Case("space: control characters in the name", ("show", "a\x1b[2J.yaml"), ("no such file",)),
    _set("no value", "seeds", "dotted.key=value"),
    _set("no key", "=3", "dotted.key=value"),
    _set("into a scalar", "iterations.deep=3", "'iterations' has no fields"),
    _set("into a list", "seeds.0=3", "seeds"),
    _set("not YAML", "seeds=[1,", "--set seeds", "not YAML"),
    _set("tag", "seeds=!!python/name:os.system", "--set seeds", "python/name:os.system"),
    _set("empty part", "search..seed=1", "search"),
    _set("wrong type", "seeds=abc", "seeds", "'abc'"),
    _set("nested 1000 deep", "seeds=" + "[" * 1000 + "]" * 1000, "deep"),
    _set("unknown", "serch.seed=1", "'serch'", "'search'"),
    _function("does not parse", "def mine(:\n", "SyntaxError", "line 1"),
    _function("raises", "def mine():\n    return 1 / 0\n", "ZeroDivisionError", "line 2"),
    _function("exits", "def mine():\n    raise SystemExit(0)\n", "mine.py", "SystemExit"),
    _function("exits when imported", "import sys\nsys.exit(3)\n", "mine.py", "SystemExit"),
    _function("never ends its recursion", "def mine():\n    return mine()\n", "RecursionError"),
    _function("returns a number", "def mine():\n    return 3\n", "int", "SweepSpec"),
    _function("absent", "def other():\n    return 3\n", "'mine'", "other"),
    _function("needs an argument", "def mine(a):\n    return a\n", "TypeError"),
    _function("not UTF-8", b"def mine(): return '\xff'\n", "mine.py"),  # type: ignore[arg-type]
    Case("function: file not there", ("show", "{}/absent.py:mine"), ("no such file", "absent.py")),
    Case(
        "function: a folder",
        ("show", "{}/mine.py:mine"),
        ("mine.py",),
        lambda folder: (folder / "mine.py").mkdir(),
    ),
]
