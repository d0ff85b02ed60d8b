# %% [markdown]
# # Judging the predictions of somebody else's model
#
# `evaluate` needs no sweep and no net of fatefront: a table with label, prediction and group. Here
# two of scikit-learn's classifiers are compared, on drawn images, in seconds.

# %%
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from orchestrator.evaluation.evaluate import evaluate_file
from trainables.data.base import TEST, TRAIN
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic

# %%
config = Synthetic.Config(num_images=600, image_size=32, classes=("nv", "mel"), minority_share=0.4)
data = load_dataset(config)
features_ND = data.images_NHWC.reshape(len(data.label_N), -1)[:, ::16] / 255.0
train, test = data.indices(TRAIN), data.indices(TEST)
classes, groups = np.array(data.classes), np.array(data.groups)

# %% [markdown]
# ## A table for each model
# One row an image. `patient` says which images belong together: they are drawn together where
# intervals are made. Columns of probabilities bring AUROC, ECE and Brier score.


# %%
def write_predictions(model, path: str) -> None:
    model.fit(features_ND[train], data.label_N[train])
    scores_NK = model.predict_proba(features_ND[test])
    table = pd.DataFrame(scores_NK, columns=[f"p_{name}" for name in classes])
    table["y_true"] = classes[data.label_N[test]]
    table["y_pred"] = classes[model.predict(features_ND[test])]
    table["tone"] = groups[data.group_N[test]]
    table["patient"] = data.patient_id_N[test]
    table.to_csv(path, index=False)


Path("predictions").mkdir(exist_ok=True)
write_predictions(GaussianNB(), "predictions/reference.csv")
write_predictions(LogisticRegression(max_iter=500), "predictions/ours.csv")

# %% [markdown]
# ## Every metric, with what stands beside it
# The same as `fatefront evaluate predictions/ours.csv --reference predictions/reference.csv ...`.

# %%
found = evaluate_file(
    "predictions/ours.csv", reference="predictions/reference.csv", group="tone", patient="patient",
    probabilities=[f"p_{name}" for name in classes], replicates=500,
)  # fmt: skip
for name, group in found["groups"].items():
    change = found["group_changes"][name]["f1"]
    print(f"{name}: {group['num_samples']} images, F1 {group['f1']:.3f} ({change:+.3f})")

# %%
gap = "eodd_hardt"
interval = found["interval"][gap]
print(f"gap {found[gap]:.3f}, 95 % interval [{interval['low']:.3f}, {interval['high']:.3f}]")
print(f"a classifier with equal per-class rates shows {found['floor'][gap]:.3f}")
print(f"p = {found['p_value'][gap]:.3f}: no sign here that the groups' rates differ at all")
fate = found["interval"][f"fate_{gap}"]
print(f"FATE {found[f'fate_{gap}']:+.2f}, 95 % interval [{fate['low']}, {fate['high']}]")

for note in found["notes"]:
    print("note:", note)
