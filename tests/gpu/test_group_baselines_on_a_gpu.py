"""Baselines that read the groups, on a GPU: the step of a CPU, and no waiting for the device."""

import copy
import dataclasses

import pytest
import torch

from trainables.conformance.baselines import begun, example
from trainables.registry import baselines
from trainables.trial_spec import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CONFIGS: list[dict] = [
    {"name": "adv_conf"},
    {"name": "adv_rev"},
    {"name": "adv_rev", "form": "projection"},
    {"name": "domain_independent", "inference": "known"},
    {"name": "group_dro", "groups": "class_group"},
]


@pytest.mark.parametrize("options", CONFIGS, ids=lambda options: "-".join(options.values()))
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_equals_the_cpus_and_never_waits(options: dict, precision: str) -> None:
    torch.backends.cudnn.allow_tf32 = False
    config = baselines.get(options["name"]).Config(**options)
    baseline, model = begun(config)
    on_gpu = copy.deepcopy(model).cuda()
    batch, recipe = example(), Recipe(learning_rate=1e-3)
    fields = ("image_NCHW", "label_N", "group_N")
    there = dataclasses.replace(batch, **{name: getattr(batch, name).cuda() for name in fields})
    plain = torch.autocast("cpu", enabled=False)
    expected = baseline.step(model.train(), batch, baseline.optimizer(model, recipe), plain)
    optimizer = baseline.optimizer(on_gpu.train(), recipe)
    bf16 = precision == "bf16"
    autocast = torch.autocast("cuda", dtype=torch.bfloat16, enabled=bf16)
    first = baseline.step(on_gpu, there, optimizer, autocast)
    torch.cuda.set_sync_debug_mode("error")
    try:  # the second step: the first also loads kernels
        second = baseline.step(on_gpu, there, optimizer, autocast)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert second.keys() == expected.keys()
    for name, value in expected.items():
        close = {"rel": 0.1, "abs": 0.02} if bf16 else {"rel": 1e-3, "abs": 1e-4}
        assert first[name].item() == pytest.approx(value.item(), **close), name
        assert bool(second[name].isfinite()), name
