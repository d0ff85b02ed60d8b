from search_spaces.parts import LIGHT, METHODS, PAPER_ARM
from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import choice, one_of
from trainables.data.augment import PAPER
from trainables.data.fitzpatrick17k import Fitzpatrick17k
from trainables.models.resnet import ResNet18
from trainables.models.vgg import VGG11
from trainables.trial_spec import Recipe


def fitzpatrick17k() -> SweepSpec:
    """Fitzpatrick17k by skin type (1-3, 4-6), nine conditions: every baseline, SNNL, FairPrune.

    Nine partitions instead of 114 conditions: of those, 20 have no dark image in a tenth of the
    data, so that no gap can be told from chance. The images are expected in
    ``data/Fitzpatrick17k``; elsewhere: ``--set data.root=PATH``.
    """
    return SweepSpec(
        name="fitzpatrick17k",
        data=Fitzpatrick17k.Config(root="data/Fitzpatrick17k", num_classes=9),
        backbone=ResNet18.Config(weights="imagenet"),
        training=Recipe(epochs=40, schedule="cosine", augment=LIGHT, normalise="imagenet"),
        finetune=Recipe(epochs=10, schedule="cosine", augment=LIGHT, normalise="imagenet"),
        baseline=one_of(*METHODS),
        prune={"criterion": choice("snnl", "fairprune"), "ratio": 0.02},
        iterations=3,
        seeds=(0, 1, 2),
        search=Search(sampler="grid"),
    )


def paper() -> SweepSpec:
    """Tables S1 and S3 of arXiv 2405.08681: Fitzpatrick17k, 114 conditions, VGG-11, 2 % x 3.

    The recipe, split and rates of the released code; images of unknown type count as dark, which
    is the better-served group. Its images are 224 px (128 px: ``--set data.image_size=128``).
    """
    published = Recipe(epochs=200, batch_size=256, augment=PAPER)
    return SweepSpec(
        name="fitzpatrick17k-paper",
        data=Fitzpatrick17k.Config(
            root="data/Fitzpatrick17k", split="paper", unknown_type="dark", image_size=224
        ),
        backbone=VGG11.Config(weights="imagenet"),
        training=published,
        finetune=published,
        baseline=one_of(
            "vanilla",
            "adv_conf",
            {"name": "adv_rev", "form": "projection"},
            "domain_independent",
            "hsic",
            "obd",
            {"name": "fairprune", "privileged": "dark"},
        ),
        prune=PAPER_ARM,
        iterations=3,
        seeds=(121,),
        search=Search(sampler="grid", mode="paper"),
    )
