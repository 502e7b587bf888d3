"""A net whose batch norms are folded says what it said before, or is left as it is."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diapir.nets.build import build_model
from diapir.nets.folding import fold_norms
from diapir.nets.unet import Outputs
from diapir.recipe.files import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def norms_of(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


def as_trained(net: nn.Module) -> nn.Module:
    """With norms that are not the identity, as after training."""
    draws = torch.Generator().manual_seed(0)
    for norm in norms_of(net):
        for values, low, high in (
            (norm.running_mean, -0.5, 0.5),
            (norm.running_var, 0.5, 2.0),
            (norm.weight, 0.5, 1.5),
            (norm.bias, -0.3, 0.3),
        ):
            assert values is not None
            values.data.uniform_(low, high, generator=draws)
    return net


@pytest.mark.parametrize(
    ("name", "most_left"), [("tgs-cpu", 0), ("quickstart", 0), ("laurans-cpu", 99), ("odoh-cpu", 99), ("survey", 0)]
)
def test_the_nets_of_recipes_say_the_same_with_fewer_norms(name: str, most_left: int) -> None:
    recipe = read_recipe(RECIPES / f"{name}.yaml")
    net = as_trained(build_model(recipe, in_channels=2)).eval()
    image = torch.randn(2, 2, 64, 64, generator=torch.Generator().manual_seed(1))
    folded = fold_norms(net, image[:1])
    assert folded is not net
    assert len(norms_of(folded)) < len(norms_of(net))
    assert len(norms_of(folded)) <= most_left
    with torch.no_grad():
        before, after = net(image).mask, folded(image).mask
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))
    assert not torch.equal(after, before)


class Twisted(nn.Module):
    """Its norm is registered behind one convolution and used behind another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)

    def forward(self, image: Tensor) -> Outputs:
        maps: Tensor = self.norm(self.second(self.first(image)))
        return Outputs(maps[:, 0], None)


def test_a_net_whose_norms_are_elsewhere_is_left_as_it_is() -> None:
    net = as_trained(Twisted())
    assert fold_norms(net, torch.randn(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))) is net
    assert len(norms_of(net)) == 1


class Odd(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Straight(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), norm)

    def forward(self, image: Tensor) -> Outputs:
        return Outputs(self.body(image)[:, 0], self.body(image).mean((1, 2, 3)))


@pytest.mark.parametrize("norm", [Odd(4), nn.BatchNorm2d(4, track_running_stats=False)])
def test_norms_that_are_more_than_their_figures_stay(norm: nn.Module) -> None:
    folded = fold_norms(Straight(norm), torch.randn(1, 1, 9, 9, generator=torch.Generator().manual_seed(0)))
    assert len(norms_of(folded)) == 1


def test_a_norm_goes_into_the_convolution_before_it() -> None:
    net = as_trained(Straight(nn.BatchNorm2d(4)))
    folded = fold_norms(net, torch.randn(1, 1, 9, 9, generator=torch.Generator().manual_seed(0)))
    assert norms_of(folded) == []
    assert len(norms_of(net)) == 1, "the net itself can go on learning"
