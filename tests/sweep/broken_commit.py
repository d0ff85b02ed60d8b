"""Faults inside real workers: what a trial does before it commits its node is put there by a
`sitecustomize` on the path of all processes of a sweep.
"""

import os
from pathlib import Path

HOOK = '''
import sys


def put_into(module):
    commit = module.Store.commit

    def faulty(self, *args, **options):
        before_commit(*args)
        return commit(self, *args, **options)

    module.Store.commit = faulty


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "trainables.store":
            return None
        import importlib.util

        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (run(module), put_into(module))
        return spec


sys.meta_path.insert(0, Finder())
'''


def with_fault(environment: dict[str, str], folder: Path, before_commit: str) -> dict[str, str]:
    """The environment of sweeps in whose workers the function ``before_commit(key, ...)``, given
    as source, is called before each commit.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(before_commit + HOOK)
    path = environment["PYTHONPATH"]
    return environment | {"PYTHONPATH": f"{folder}{os.pathsep}{path}"}
