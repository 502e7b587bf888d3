import itertools

import pytest
import torch
from torch import nn

from diapir.nets.object_context import AtrousObjectContext, ContextAttention, ObjectContext
from net_checks import conv, count, norm


def open_up(module: nn.Module) -> None:
    """Give what starts at zero, and every norm's statistics, values that show."""
    for each in module.modules():
        if isinstance(each, ContextAttention):
            nn.init.normal_(each.give.weight, std=0.5)
        if isinstance(each, nn.BatchNorm2d):
            nn.init.uniform_(each.weight, 0.5, 2)
            nn.init.normal_(each.bias)
            assert each.running_mean is not None
            assert each.running_var is not None
            nn.init.normal_(each.running_mean)
            nn.init.uniform_(each.running_var, 0.5, 2)


@pytest.mark.parametrize(("keys", "values"), [(4, 4), (3, 8)])
def test_attention_agrees_with_the_slow_obvious_version(keys: int, values: int) -> None:
    torch.manual_seed(0)
    block = ContextAttention(6, keys=keys, values=values).eval()
    open_up(block)
    maps = torch.randn(2, 6, 3, 4)
    likeness, value = block.key(maps), block.value(maps)
    gathered = torch.zeros(2, values, 3, 4)
    places = list(itertools.product(range(3), range(4)))
    for n in range(2):
        for i, j in places:
            raw = [(likeness[n, :, i, j] @ likeness[n, :, k, m] / keys**0.5).exp() for k, m in places]
            for weight, (k, m) in zip(raw, places, strict=True):
                gathered[n, :, i, j] += weight / sum(raw) * value[n, :, k, m]
    torch.testing.assert_close(block(maps), block.give(gathered))


def test_attention_at_a_scale_sees_the_largest_of_each_square_and_keeps_the_corners() -> None:
    torch.manual_seed(8)
    whole, half = ContextAttention(4, keys=2, values=4).eval(), ContextAttention(4, keys=2, values=4, scale=2).eval()
    open_up(whole)
    half.load_state_dict(whole.state_dict())
    maps = torch.randn(1, 4, 6, 8)
    largest = torch.stack([maps[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
    coarse, fine = whole(largest), half(maps)
    assert (coarse[..., 0, 0] - coarse[..., 0, 1]).abs().min() > 0.01  # or the way from one to the other would not show
    assert fine.shape == maps.shape
    torch.testing.assert_close(fine[..., [0, 0, -1, -1], [0, -1, 0, -1]], coarse[..., [0, 0, -1, -1], [0, -1, 0, -1]])
    # Between two places of a row, the way along the row with corners aligned: 7 steps over 3.
    torch.testing.assert_close(fine[..., 0, 1], coarse[..., 0, 0] * 4 / 7 + coarse[..., 0, 1] * 3 / 7)
    assert half(maps[..., :5, :7]).shape == (1, 4, 5, 7)


def test_a_new_context_leaves_its_input_alone() -> None:
    torch.manual_seed(0)
    block = ObjectContext(6, keys=3).eval()
    maps = torch.randn(2, 6, 5, 5)
    fuse: nn.Conv2d = block.fuse[0]  # type: ignore[assignment]  # a Sequential holds modules of any kind
    alone = nn.functional.leaky_relu(nn.functional.conv2d(maps, fuse.weight[:, 6:], fuse.bias), 0.01)
    torch.testing.assert_close(block(maps), alone / (1 + 1e-5) ** 0.5)
    assert not block.attention(maps).any()
    open_up(block.attention)
    assert (block(maps) - alone).abs().max() > 0.01


@pytest.mark.parametrize(("activation", "negative"), [("leaky_relu", -0.01), ("none", -1.0)])
def test_the_activation_follows_the_norm_of_the_keys(activation: str, negative: float) -> None:
    block = ContextAttention(1, keys=1, values=1, activation=activation).eval()  # type: ignore[arg-type]  # pytest gives strings
    nn.init.ones_(block.key[0].weight)  # type: ignore[arg-type]
    nn.init.zeros_(block.key[0].bias)  # type: ignore[arg-type]
    torch.testing.assert_close(
        block.key(torch.tensor([-1.0, 2.0]).view(1, 1, 1, 2))[0, 0, 0], torch.tensor([negative, 2.0]), rtol=1e-4, atol=0
    )


def test_the_atrous_form_sees_itself_its_neighbours_on_three_rings_and_nothing_else() -> None:
    torch.manual_seed(0)
    block = AtrousObjectContext(2, 4, dilations=(3, 6, 9)).eval()
    maps = torch.zeros(1, 2, 23, 23, requires_grad=True)
    block(maps)[0, :, 11, 11].sum().backward()
    assert maps.grad is not None
    rows, columns = maps.grad.abs().sum((0, 1)).nonzero(as_tuple=True)
    seen = {(row - 11, column - 11) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)}
    assert seen == {pair for far in (3, 6, 9) for pair in itertools.product((-far, 0, far), repeat=2)}


def test_the_atrous_forms_context_sees_everything_once_it_has_learned() -> None:
    torch.manual_seed(0)
    block = AtrousObjectContext(2, 4, dilations=(3, 6, 9)).eval()
    open_up(block)
    maps = torch.randn(1, 2, 12, 12, requires_grad=True)
    block(maps)[0, :, 0, 0].sum().backward()
    assert maps.grad is not None
    assert maps.grad[..., 10:, 10:].any()


def test_dropout_drops_whole_maps_in_training_alone() -> None:
    torch.manual_seed(0)
    maps = torch.randn(4, 6, 8, 8)
    for block in (ObjectContext(6, keys=3, dropout=0.5), AtrousObjectContext(6, 6, dropout=0.5)):
        dropped = (block(maps) == 0).flatten(2)
        assert torch.equal(dropped.all(2), dropped.any(2))
        assert 0 < dropped.all(2).sum() < 24
        assert (block.eval()(maps) != 0).all()


def test_the_parameters_are_as_many_as_a_count_by_hand() -> None:
    def attention(channels: int, keys: int, values: int) -> int:
        key = conv(channels, keys, 1, bias=True) + norm(keys)
        return key + conv(channels, values, 1, bias=True) + conv(values, channels, 1, bias=True)

    assert count(ObjectContext(512, keys=256)) == (attention(512, 256, 256) + conv(1024, 512, 1, bias=True) + norm(512))
    branches = conv(128, 48, bias=True) + norm(48) + attention(48, 24, 48) + conv(48, 48, 1, bias=True) + norm(48)
    branches += conv(128, 48, 1) + norm(48) + 3 * (conv(128, 48) + norm(48))
    assert count(AtrousObjectContext(128, 48)) == branches + conv(5 * 48, 48, 1) + norm(48)


@pytest.mark.parametrize("scale", [1, 2])
def test_maps_with_channels_last_give_the_same(scale: int) -> None:
    torch.manual_seed(0)
    block = ContextAttention(8, keys=4, values=8, scale=scale).eval()
    open_up(block)
    maps = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(maps.to(memory_format=torch.channels_last)), block(maps))
