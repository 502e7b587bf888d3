import pytest
import torch
from torch import Tensor, nn

from diapir.nets.build import build_model
from diapir.nets.pair import Pair, mean_logits
from diapir.nets.unet import Outputs
from fake_training import tiny_recipe

CO_TRAINING = {"semi": {"kind": "co-training"}}


class Says(nn.Module):
    def __init__(self, outputs: Outputs) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, _: Tensor) -> Outputs:
        return self.outputs


def test_a_pair_gives_the_mean_of_both_probabilities() -> None:
    rng = torch.Generator().manual_seed(0)
    one, other = (
        Outputs(4 * torch.randn(3, 5, 5, generator=rng), torch.randn(3, generator=rng), (torch.ones(3, 2, 2),))
        for _ in range(2)
    )
    found = Pair(Says(one), Says(other))(torch.zeros(1))
    torch.testing.assert_close(found.mask.sigmoid(), (one.mask.sigmoid() + other.mask.sigmoid()) / 2)
    assert one.has_salt is not None
    assert other.has_salt is not None
    torch.testing.assert_close(found.has_salt.sigmoid(), (one.has_salt.sigmoid() + other.has_salt.sigmoid()) / 2)
    assert found.sides == ()
    assert Pair(Says(one._replace(has_salt=None)), Says(other))(torch.zeros(1)).has_salt is None


@pytest.mark.parametrize(("one", "other", "mean"), [(60.0, 60.0, 60.0), (-90.0, -90.0, -90.0), (80.0, -80.0, 0.0)])
def test_sure_nets_make_a_finite_mean(one: float, other: float, mean: float) -> None:
    assert mean_logits(torch.tensor(one), torch.tensor(other)).item() == pytest.approx(mean, abs=1e-4)


def test_a_recipe_of_two_nets_builds_two_that_differ_and_the_first_is_the_one_of_a_recipe_of_one() -> None:
    torch.manual_seed(3)
    pair = build_model(tiny_recipe(CO_TRAINING), in_channels=2)
    torch.manual_seed(3)
    single = build_model(tiny_recipe(), in_channels=2)
    assert isinstance(pair, Pair)
    first, second = pair.first.state_dict(), pair.second.state_dict()
    assert all(torch.equal(value, first[name]) for name, value in single.state_dict().items())
    assert not torch.equal(first["head.weight"], second["head.weight"])
