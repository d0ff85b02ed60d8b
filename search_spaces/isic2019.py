from search_spaces.parts import LIGHT, METHODS, PAPER_ARM
from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import choice, one_of
from trainables.data.augment import PAPER
from trainables.data.isic2019 import ISIC2019
from trainables.models.resnet import ResNet18
from trainables.trial_spec import Recipe


def isic2019() -> SweepSpec:
    """ISIC 2019 by sex, split by lesion: every baseline, SNNL and FairPrune against both controls.

    The images are expected in ``data/ISIC2019``; elsewhere: ``--set data.root=PATH``.
    """
    return SweepSpec(
        name="isic2019",
        data=ISIC2019.Config(root="data/ISIC2019", attribute="sex"),
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
    """Table S2 of arXiv 2405.08681: ISIC 2019 by sex, ResNet-18, the recipe of the released code.

    The code has no ResNet path: the last convolution is pruned as its VGG path does it (the
    filter's weights are masked, the BatchNorm after it lives on). The better-served group is
    female. Its own rows are not known, only its protocol (``split: paper``).
    """
    published = Recipe(epochs=200, augment=PAPER)
    return SweepSpec(
        name="isic2019-paper",
        data=ISIC2019.Config(root="data/ISIC2019", attribute="sex", split="paper"),
        backbone=ResNet18.Config(weights="imagenet"),
        training=published,
        finetune=published,
        baseline=one_of(
            "vanilla",
            "adv_conf",
            {"name": "adv_rev", "form": "projection"},
            "domain_independent",
            {"name": "fairprune", "privileged": "female"},
        ),
        prune=PAPER_ARM,
        iterations=3,
        seeds=(121,),
        search=Search(sampler="grid", mode="paper"),
    )
