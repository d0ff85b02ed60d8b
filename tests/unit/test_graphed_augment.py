"""Which augmentations may be recorded as a graph (that they are equal: tests/gpu)."""

from search_spaces.parts import LIGHT
from trainables.data.augment import PAPER, Augment
from trainables.data.graphed_augment import can_be_graphed


def test_only_what_is_launched_alike_for_every_draw():
    assert can_be_graphed(Augment(), 64, 128)
    assert can_be_graphed(LIGHT, 64, 128)
    assert not can_be_graphed(PAPER, 64, 128)
    assert not can_be_graphed(Augment(autoaugment="imagenet"), 64, 128)
    assert not can_be_graphed(Augment(degrees=10, interpolation="mixed"), 64, 128)
    assert can_be_graphed(Augment(interpolation="mixed"), 64, 128)  # nothing is resampled


def test_only_small_batches():
    assert can_be_graphed(LIGHT, 256, 128)
    assert can_be_graphed(LIGHT, 128, 224)
    assert not can_be_graphed(LIGHT, 1024, 128)
