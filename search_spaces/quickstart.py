from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import choice
from trainables.data.synthetic import Synthetic
from trainables.models.resnet import ResNet18
from trainables.trial_spec import Recipe


def quickstart() -> SweepSpec:
    """Synthetic dermoscopy by skin tone, one baseline, SNNL against both controls: minutes on two
    CPU cores.
    """
    return SweepSpec(
        name="quickstart",
        data=Synthetic.Config(num_images=600, image_size=64),
        backbone=ResNet18.Config(),
        training=Recipe(epochs=5, batch_size=32, learning_rate=0.01, schedule="cosine"),
        finetune=Recipe(epochs=2, batch_size=32, learning_rate=0.002, schedule="cosine"),
        baseline="vanilla",
        prune={"criterion": "snnl", "ratio": choice(0.05, 0.2)},
        iterations=2,
        seeds=(0, 1),
        search=Search(sampler="grid"),
    )
