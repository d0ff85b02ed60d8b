from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import choice
from trainables.data.augment import Augment
from trainables.data.synthetic import Synthetic
from trainables.models.resnet import ResNet18
from trainables.trial_spec import Recipe


def quickstart() -> SweepSpec:
    """Synthetic dermoscopy by skin tone, one baseline, SNNL against both controls: minutes on two
    CPU cores.
    """
    short = {"batch_size": 32, "learning_rate": 0.02, "schedule": "cosine", "augment": Augment()}
    return SweepSpec(
        name="quickstart",
        data=Synthetic.Config(num_images=600, image_size=64),
        backbone=ResNet18.Config(),
        training=Recipe(epochs=4, **short),
        finetune=Recipe(epochs=1, **(short | {"learning_rate": 0.01, "schedule": "constant"})),
        baseline="vanilla",
        prune={"criterion": "snnl", "ratio": choice(0.05, 0.2)},
        iterations=2,
        seeds=(0, 1),
        search=Search(sampler="grid"),
    )
