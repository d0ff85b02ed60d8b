"""NVIDIA's library says what its program says."""

import shutil

import pytest

from orchestrator.watching.gpu_use import GpuMeter, _program_says, library_says, parse_use

pytestmark = pytest.mark.gpu


def test_the_library_and_the_program_name_the_same_gpus():
    pytest.importorskip("pynvml")
    said = library_says()
    assert said
    assert parse_use(said, None).num >= 1
    assert GpuMeter().use() is not None
    program = shutil.which("nvidia-smi")
    if program is not None:
        told = _program_says(program)
        names = [[line.split(", ")[:2] for line in text.strip().splitlines()]
                 for text in (said, told)]  # fmt: skip
        assert names[0] == names[1]
