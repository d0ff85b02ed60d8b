# %% [markdown]
# # A tiny sweep, and its front
#
# Twelve trials on drawn images, with Ray on this machine: a minute or two on two cores. Each cell
# runs as it stands; run the file again and nothing is computed twice.

# %%
from pathlib import Path

from orchestrator.fronts.aggregate import aggregate
from orchestrator.fronts.front import sweep_front
from orchestrator.fronts.judged import judge_front
from orchestrator.ledger.manifest import read_sweep
from orchestrator.ledger.records import load_records
from orchestrator.run import RunOptions, run_space

# %% [markdown]
# ## The space
# YAML, as `fatefront show` prints and `fatefront init` writes it. `choice` is a word of a space:
# one arm for each value. `none` is the control: the same fine-tuning, nothing pruned.

# %%
SPACE = """
name: example
data: {name: synthetic, num_images: 160, image_size: 32, classes: [nv, mel], minority_share: 0.5}
backbone: resnet18
training: {epochs: 4, batch_size: 8, schedule: constant, normalise: imagenet}
finetune: {epochs: 1, batch_size: 8, schedule: constant, normalise: imagenet}
prune: {criterion: snnl, ratio: {choice: [0.1, 0.3]}, site: conv}
iterations: 1
seeds: [0, 1, 2]
controls: [none]
search: {sampler: grid, max_f1_loss: null}
"""
folder = Path("runs/example")
folder.parent.mkdir(exist_ok=True)
space = folder.with_name("example.yaml")
space.write_text(SPACE, encoding="utf-8")

# %% [markdown]
# ## Run
# What `fatefront run example.yaml` does. `tracking_uri="none"`: without MLflow, which
# `fatefront ui` brings up to date later.

# %%
outcome = run_space(RunOptions(str(space), out=folder, tracking_uri="none", quiet=True))
print(outcome["num_done"], "trials,", outcome["num_computed_now"], "computed now")

# %% [markdown]
# ## Read the front
# All from what was recorded, without a GPU. `judge_front` draws seeds and patients again, so that
# each figure has an interval, and each member the share of draws in which it is on the front.

# %%
records = load_records(folder)
front = sweep_front(records, read_sweep(folder))
judgement = judge_front(folder, front, records)

for member in front.members:
    point = member.aggregate
    judged = judgement.points[point.configuration]
    low, high = judged.intervals["f1"].low, judged.intervals["f1"].high
    f1, name = point.figures["f1"], point.trial["label"]
    print(f"{name}: F1 {f1:.3f} [{low:.3f}, {high:.3f}], {point.tag}")
    fate = "fate_eodd_hardt"
    if point.trial["role"] == "baseline":
        print("   FATE 0: it is what the others are compared with")
    elif fate in judged.intervals and judged.intervals[fate].low is not None:
        print("   FATE", point.figures[fate])
    else:
        print("   FATE is not determined: the reference's gap is near what equal rates show")

# %% [markdown]
# A member is not a winner: it is what nothing else dominates in these figures. Every
# configuration, member or not, with the mean over its seeds:

# %%
points = sorted(aggregate(records).values(), key=lambda point: point.trial["label"])
for point in points:
    print(f"{point.trial['label']:<24} {point.trial['role']:<10} F1 {point.figures['f1']:.3f}")
