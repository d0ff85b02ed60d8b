# %% [markdown]
# # Taking a model from a front
#
# A sweep is exported, its models are registered in MLflow, and one of them is loaded in two ways:
# as a scikit-learn classifier, and by `mlflow.pyfunc`. Run `sweep_and_front.py` in the same folder
# first; a minute on two cores.

# %%
from pathlib import Path

import mlflow
import numpy as np

from orchestrator.models.publish import ExportOptions, publish
from trainables.data.base import VALIDATION
from trainables.data.load import load_dataset, parse_data
from trainables.pruned_classifier import PrunedClassifier

folder = Path("runs/example")

# %% [markdown]
# ## Export
# What `fatefront export runs/example --to front --no-test --register` does. `open_test=False`
# leaves the test split sealed: open it once, when nothing is chosen any more.

# %%
exported = publish(folder, Path("front"), ExportOptions(open_test=False, register=True))
print(exported["headline"])
for model in exported["registered"]:
    print(model["name"], "version", model["version"], *(f"@{alias}" for alias in model["aliases"]))

# %% [markdown]
# ## As a scikit-learn classifier
# Images are uint8 (N, H, W, 3) in the size that the model takes. No pickle: safetensors and a list
# of the channels that are left.

# %%
(best,) = [model for model in exported["registered"] if "best-f1" in model["aliases"]]
(path,) = [model["path"] for model in exported["models"] if model["key"] == best["key"]]
net = PrunedClassifier.load(path)

DATA = {
    "name": "synthetic", "num_images": 160, "image_size": 32, "classes": ["nv", "mel"],
    "minority_share": 0.5,
}  # fmt: skip
data = load_dataset(parse_data(DATA))
images = data.images_NHWC[data.indices(VALIDATION)]
labels = np.array(data.classes)[data.label_N[data.indices(VALIDATION)]]
print("accuracy on validation:", net.score(images, labels))

# %% [markdown]
# ## From MLflow's registry
# By alias: `best-f1`, `best-fate`, `knee`. The answer has a row an image: `logit_*`, `p_*`,
# `y_pred`.

# %%
mlflow.set_tracking_uri(f"sqlite:///{folder.absolute()}/mlflow.db")
served = mlflow.pyfunc.load_model(f"models:/{best['name']}@best-f1")
answer = served.predict(images)
print(answer.head(3))
assert (answer["y_pred"].to_numpy() == net.predict(images)).all()
difference = np.abs(answer[[f"p_{name}" for name in net.classes_]] - net.predict_proba(images))
print("largest difference of the two ways:", difference.to_numpy().max())
assert difference.to_numpy().max() < 1e-6
