"""Folded networks compute the same with fewer operators."""

import pytest
import torch
from torch import nn

from tests.support.engine import zoo
from worker.engine.torch_program.fold_batch_norm import fold_batch_norms


def randomized(network: nn.Module) -> nn.Module:
    """With statistics, scales and shifts that are all different."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return network


NETWORKS = {
    "residual": (zoo.Mixed, (2, 3, 16, 16), 3),
    "without affine": (lambda: nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6, affine=False)), (2, 4, 9), 1),
    "linear": (lambda: nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)), (2, 5), 1),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)), (2, 4, 5, 5), 1),
    "grouped transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
        (2, 4, 5, 5),
        0,
    ),
    "norm first": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1)), (2, 3, 5, 5), 0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_result_stays(name: str) -> None:
    make, shape, expected = NETWORKS[name]
    network = randomized(make()).eval()
    x = torch.randn(*shape)
    module = zoo.program(network, x).module(check_guards=False)
    norms = len(module.graph.find_nodes(op="call_function", target=torch.ops.aten.batch_norm.default))

    folded = fold_batch_norms(module)

    left = len(module.graph.find_nodes(op="call_function", target=torch.ops.aten.batch_norm.default))
    assert (folded, norms - left) == (expected, expected)
    with torch.no_grad():
        wanted = network(x)
        torch.testing.assert_close(module(x), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


class Shared(nn.Module):
    """One convolution used twice, and a result that a norm and an addition read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.conv(x)
        return self.norm(self.conv(torch.relu(first))) + self.norm(first) + first


def test_what_is_used_elsewhere_is_left_alone() -> None:
    module = zoo.program(randomized(Shared()).eval(), torch.randn(2, 4, 3, 3)).module(check_guards=False)
    assert fold_batch_norms(module) == 0
