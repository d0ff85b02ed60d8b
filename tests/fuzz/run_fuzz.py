"""Coverage-guided fuzzing of one target by libFuzzer through atheris.

    python tests/fuzz/run_fuzz.py TARGET -max_total_time=60 tests/fuzz/corpus/TARGET

What raised coverage is added to the corpus; a fault is left as `crash-*` in this folder.
"""

import sys
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
with atheris.instrument_imports(include=["orchestrator", "trainables", "search_spaces", "yaml"]):
    from fuzz_targets import TARGETS, feed


def main() -> None:
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"a target is needed: {', '.join(TARGETS)}")
    warnings.simplefilter("ignore")
    atheris.Setup(sys.argv, lambda data: feed(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
