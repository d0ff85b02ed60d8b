from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import choice
from trainables.data.augment import Augment
from trainables.data.ham10000 import HAM10000
from trainables.models.resnet import ResNet18
from trainables.trial_spec import Recipe


def ham10000() -> SweepSpec:
    """HAM10000 by sex: ResNet-18, SNNL and both controls at 2, 5 and 10 % for up to three
    iterations, three seeds.

    The images are expected in ``data/HAM10000``; elsewhere: ``--set data.root=PATH``.
    """
    light = Augment(crop=True, degrees=180, scale=(0.8, 1.2), brightness=32 / 255, saturation=0.5)
    return SweepSpec(
        name="ham10000",
        data=HAM10000.Config(root="data/HAM10000", attribute="sex", missing_images="skip"),
        backbone=ResNet18.Config(),
        training=Recipe(epochs=40, schedule="cosine", learning_rate=0.05, augment=light),
        finetune=Recipe(epochs=10, schedule="cosine", learning_rate=0.01, augment=light),
        baseline="vanilla",
        prune={"criterion": "snnl", "ratio": choice(0.02, 0.05, 0.10)},
        iterations=3,
        seeds=(0, 1, 2),
        search=Search(sampler="grid"),
    )
