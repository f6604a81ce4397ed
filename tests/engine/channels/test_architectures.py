"""Every family of networks really shrinks, and computes what it did with zeros in place of what was removed."""

import pytest

from tests.engine.channels.networks import halved, torchvision_program


@pytest.mark.parametrize(
    ("name", "groups", "parameters_left"),
    [("resnet18", 12, 0.27), ("mobilenet_v2", 25, 0.37), ("efficientnet_b0", 40, 0.34), ("vit_b_16", 24, 0.52)],
)
def test_full_size_networks_shrink_exactly(name: str, groups: int, parameters_left: float) -> None:
    found = halved(torchvision_program(name, size=32))

    assert found.channels.frozen_operators == {}
    assert len(found.channels.groups) == groups
    assert found.parameters_left < parameters_left
    assert found.difference < 1e-5 < 0.1 < found.effect
    assert set(found.smaller.exported.state_dict) == set(found.channels.program.exported.state_dict)
