from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import choice
from trainables.data.augment import PAPER, Augment
from trainables.data.base import Split
from trainables.data.ham10000 import HAM10000
from trainables.models.resnet import ResNet18
from trainables.models.vgg import VGG11
from trainables.pruning.snnl import PAPER as PAPER_SNNL
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


def paper() -> SweepSpec:
    """The published procedure (arXiv 2405.08681, as its code runs it): VGG-11, 2 % x 3.

    Each deviation from what is right is a switch that can be set back one by one: the split by
    image, the SNNL's self-pair and order, the mask that leaves the bias alive, and rates of absent
    classes (0 by ``search.mode``). Seed 121 is the code's.
    """
    published = Recipe(epochs=200, batch_size=256, augment=PAPER)
    return SweepSpec(
        name="ham10000-paper",
        data=HAM10000.Config(
            root="data/HAM10000",
            attribute="sex",
            missing_images="skip",
            split=Split(by="image", fractions=(0.8, 0.1, 0.1)),
        ),
        backbone=VGG11.Config(weights="imagenet"),
        training=published,
        finetune=published,
        prune={
            "criterion": {"name": "snnl"} | PAPER_SNNL,
            "ratio": 0.02,
            "site": "conv",
            "surgery": "weight_mask",
            "finetune_loss": "cross_entropy",
        },
        iterations=3,
        seeds=(121,),
        search=Search(sampler="grid", mode="paper"),
    )
