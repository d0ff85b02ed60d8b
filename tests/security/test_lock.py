"""The lock file: every package with one version and its hashes, no index named, as constrained."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)( ; [^\\]+)? \\$")


def test_every_package_is_pinned_with_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text()
    pins = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.partition("\n")[2].strip()):
        head, *hashes = block.split("\n")
        match = PIN.fullmatch(head)
        assert match, head
        assert hashes
        for line in hashes:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
        pins[match[1].lower().replace("_", "-")] = match[2]
    assert {"torch", "ray", "mlflow", "optuna", "pyyaml", "pillow", "safetensors"} <= set(pins)
    assert "://" not in text
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, equals, version = line.partition("==")
        if equals and not line.startswith("#"):
            name = name.lower().replace("_", "-")
            assert pins.get(name, version) == version, line
