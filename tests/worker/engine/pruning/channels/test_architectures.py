"""Every family of networks really shrinks, and computes what it did with zeros in place of what was removed."""

import pytest

from tests.support.engine.pruned_networks import Halved, family_program, halved, torchvision_program
from worker.engine.pruning.channels.analysis import analyse
from worker.engine.pruning.channels.cost import cost_of


@pytest.mark.parametrize(
    ("name", "groups", "parameters_left", "macs_left"),
    [
        ("resnet", 8, 0.251, 0.283),
        ("bottleneck", 13, 0.252, 0.270),
        ("densenet", 20, 0.283, 0.381),
        ("convnext", 4, 0.602, 0.601),
        ("mobilenet", 24, 0.290, 0.316),
        ("efficientnet", 8, 0.317, 0.304),
        ("transformer", 4, 0.593, 0.571),
    ],
)
def test_small_networks_shrink_exactly(name: str, groups: int, parameters_left: float, macs_left: float) -> None:
    """Half of the channels leave a quarter of the weights between two such layers, and half where a width stays.

    ConvNeXt and the transformer keep the width that their layer norms average over.
    """
    require_exact(halved(family_program(name)), groups, parameters_left, macs_left)


@pytest.mark.extended  # moved: the networks of full size; those above are made of the same blocks
@pytest.mark.parametrize(
    ("name", "groups", "parameters_left", "macs_left"),
    [
        ("resnet18", 12, 0.261, 0.269),
        ("resnet50", 37, 0.271, 0.263),
        ("densenet121", 120, 0.285, 0.265),
        ("convnext_tiny", 18, 0.547, 0.537),
        ("mobilenet_v2", 25, 0.349, 0.315),
        ("efficientnet_b0", 40, 0.322, 0.307),
        ("vit_b_16", 24, 0.508, 0.504),
    ],
)
def test_full_size_networks_shrink_exactly(name: str, groups: int, parameters_left: float, macs_left: float) -> None:
    require_exact(halved(torchvision_program(name, size=32)), groups, parameters_left, macs_left)


def require_exact(found: Halved, groups: int, parameters_left: float, macs_left: float) -> None:
    """The smaller program computes what the masked one does, and is as small as it should be."""
    assert found.channels.frozen_operators == {}
    assert len(found.channels.groups) == groups
    assert found.parameters_left == pytest.approx(parameters_left, abs=0.001)
    before, after = cost_of(found.channels), cost_of(analyse(found.smaller))
    assert after.macs / before.macs == pytest.approx(macs_left, abs=0.001)
    assert found.difference < 1e-5 < 0.1 < found.effect
    assert set(found.smaller.exported.state_dict) == set(found.channels.program.exported.state_dict)
