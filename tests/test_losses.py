import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diapir import losses
from diapir.losses import (
    bce,
    dice,
    focal,
    has_salt_loss,
    holds_salt,
    lovasz,
    mean_with_salt,
    mixed_loss,
    symmetric_lovasz,
)
from diapir.recipe.training import LossName

Loss = Callable[[Tensor, Tensor], Tensor]
HINGES: tuple[losses.Hinge, ...] = ("relu", "elu")
EVERY_LOSS: dict[str, Loss] = {
    "bce": bce,
    "dice": dice,
    "focal": focal,
    "focal, gamma 0.5": lambda z, y: focal(z, y, gamma=0.5),
    "lovasz relu": lambda z, y: lovasz(z, y, hinge="relu"),
    "lovasz elu": lovasz,
    "symmetric": symmetric_lovasz,
    "mixed": lambda z, y: mixed_loss(z, y, weights={"bce": 0.1, "dice": 0.2, "symmetric_lovasz": 0.7}),
    "symmetric, whole batch": lambda z, y: symmetric_lovasz(z, y, whole_batch=True),
}
every_loss = pytest.mark.parametrize("loss", EVERY_LOSS.values(), ids=EVERY_LOSS)


def batch(seed: int = 0, *, images: int = 4, side: int = 5, share: float = 0.4) -> tuple[Tensor, Tensor]:
    """Logits and truth (n, side, side); the first truth is empty, the last full."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, side, side, generator=rng)
    truth = (torch.rand(images, side, side, generator=rng) < share).float()
    truth[0], truth[-1] = 0, 1
    return logits, truth


def jaccard_loss(wrong: set[int], salt: set[int]) -> float:
    """Equation 6 of the paper: the Jaccard loss of a set of mispredicted pixels."""
    return len(wrong) / len(wrong | salt) if wrong else 0.0


def slow_lovasz(logits: Tensor, truth: Tensor, *, hinge: str) -> Tensor:
    """Equations 8 and 9 of the paper for one image, pixel by pixel: a scalar."""
    z, y = logits.flatten(), truth.flatten().tolist()
    margins = [1 - z[i] * (1 if y[i] else -1) for i in range(len(y))]
    errors = [m.clamp(min=0) if hinge == "relu" else (m + 1 if m > 0 else m.exp()) for m in margins]
    salt = {i for i, value in enumerate(y) if value}
    total, wrong = torch.zeros(()), set[int]()
    for i in sorted(range(len(y)), key=lambda i: -margins[i].item()):
        step = jaccard_loss(wrong | {i}, salt) - jaccard_loss(wrong, salt)
        total, wrong = total + errors[i] * step, wrong | {i}
    return total


def with_gradient(loss: Loss, logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Loss (n,), and the gradient of its weighted sum, so that images cannot stand in for each other."""
    logits = logits.detach().clone().requires_grad_()
    values = loss(logits, truth)
    (gradient,) = torch.autograd.grad((values * torch.arange(1, len(values) + 1)).sum(), logits)
    return values.detach(), gradient


def assert_same(loss: Loss, other: Loss, logits: Tensor, truth: Tensor) -> None:
    for one, two in zip(with_gradient(loss, logits, truth), with_gradient(other, logits, truth), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("hinge", HINGES)
@pytest.mark.parametrize("seed", range(3))
def test_lovasz_of_each_image_is_the_papers(hinge: losses.Hinge, seed: int) -> None:
    def slow(logits: Tensor, truth: Tensor) -> Tensor:
        return torch.stack([slow_lovasz(z, y, hinge=hinge) for z, y in zip(logits, truth, strict=True)])

    assert_same(lambda z, y: lovasz(z, y, hinge=hinge), slow, *batch(seed))


@pytest.mark.parametrize("hinge", HINGES)
def test_lovasz_of_the_whole_batch_is_the_papers_of_one_long_image(hinge: losses.Hinge) -> None:
    def slow(logits: Tensor, truth: Tensor) -> Tensor:
        return slow_lovasz(logits, truth, hinge=hinge).expand(len(logits))

    assert_same(lambda z, y: lovasz(z, y, hinge=hinge, whole_batch=True), slow, *batch())


@pytest.mark.parametrize("hinge", HINGES)
@pytest.mark.parametrize("whole_batch", [False, True])
def test_symmetric_lovasz_is_the_mean_of_salt_and_of_all_else(hinge: losses.Hinge, whole_batch: bool) -> None:
    def slow(logits: Tensor, truth: Tensor) -> Tensor:
        pairs = [(logits, truth)] if whole_batch else list(zip(logits, truth, strict=True))
        found = [(slow_lovasz(z, y, hinge=hinge) + slow_lovasz(-z, 1 - y, hinge=hinge)) / 2 for z, y in pairs]
        return torch.stack(found).expand(len(logits))

    assert_same(lambda z, y: symmetric_lovasz(z, y, hinge=hinge, whole_batch=whole_batch), slow, *batch())


@pytest.mark.filterwarnings("default")  # of an import that is not ours
@pytest.mark.parametrize("whole_batch", [False, True])
def test_lovasz_agrees_with_segmentation_models_pytorch(whole_batch: bool) -> None:
    peer = pytest.importorskip(
        "segmentation_models_pytorch.losses", reason="needs the group bench: uv sync --all-groups"
    )
    theirs = peer.LovaszLoss(mode="binary", per_image=not whole_batch)
    logits, truth = batch(images=6, side=32)
    ours, gradient = with_gradient(
        lambda z, y: lovasz(z, y, hinge="relu", whole_batch=whole_batch).mean()[None], logits, truth
    )
    expected, expected_gradient = with_gradient(lambda z, y: theirs(z, y)[None], logits, truth)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


MARGINS = st.one_of(
    st.floats(-(2**100), 2**100, width=32),
    st.sampled_from([0.0, 1.0, 1.0, -1.0, 2**-140, -(2**-140), math.inf, -math.inf]),
)
IMAGES = st.lists(st.lists(st.tuples(MARGINS, st.integers(0, 1)), min_size=9, max_size=9), min_size=1, max_size=3)


@given(IMAGES)
def test_the_processors_own_sort_gives_the_steps_of_torchs(images: list[list[tuple[float, int]]]) -> None:
    margins, truth = torch.tensor(images).unbind(2)
    margins = margins + 0.0  # a margin is 1 minus something, so it is never -0.0
    own, torchs = (steps(margins, truth > 0) for steps in (losses._jaccard_steps, losses._jaccard_steps_on_device))
    assert torch.equal(own, torchs)


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("images", [1, 2, 3, 8])
def test_threads_do_not_change_the_steps(images: int, three_threads: None) -> None:
    logits, truth = batch(images=images, side=256)
    # Coarse margins, so that there are many ties.
    margins, truth = (1 - logits.mul(8).round() / 8).flatten(1), truth.flatten(1)
    own, torchs = (steps(margins, truth > 0) for steps in (losses._jaccard_steps, losses._jaccard_steps_on_device))
    assert torch.equal(own, torchs)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_the_steps_of_an_image_sum_to_1_and_none_is_negative(share: float) -> None:
    logits, truth = batch(images=6, side=101, share=share)
    steps = losses._jaccard_steps(1 - logits.flatten(1), truth.flatten(1))
    torch.testing.assert_close(steps.sum(1), torch.ones(6))
    assert (steps >= 0).all()


def test_elu_with_and_without_1_differ_by_1_and_have_one_gradient() -> None:
    def elu_alone(logits: Tensor, truth: Tensor) -> Tensor:
        margins = (1 - logits * (2 * truth - 1)).flatten(1)
        return (F.elu(margins) * losses._jaccard_steps(margins.detach(), truth.flatten(1))).sum(1)

    (value, gradient), (other, other_gradient) = (with_gradient(each, *batch()) for each in (lovasz, elu_alone))
    torch.testing.assert_close(value, other + 1)
    torch.testing.assert_close(gradient, other_gradient)


@pytest.mark.parametrize("hinge", HINGES)
def test_an_empty_mask_moves_one_pixel_alone_and_the_symmetric_form_all(hinge: losses.Hinge) -> None:
    logits = batch()[0][:1].tanh()  # all margins are above 0, where relu has a slope
    empty = torch.zeros_like(logits)
    _, gradient = with_gradient(lambda z, y: lovasz(z, y, hinge=hinge), logits, empty)
    assert gradient.count_nonzero() == 1
    assert gradient.argmax() == logits.argmax()
    _, gradient = with_gradient(lambda z, y: symmetric_lovasz(z, y, hinge=hinge), logits, empty)
    assert gradient.count_nonzero() == gradient.numel()


def test_relu_lets_go_of_pixels_that_are_right_by_the_margin_and_elu_does_not() -> None:
    logits, truth = batch()
    logits = (2 * truth - 1) * (1.5 + logits.abs())
    assert with_gradient(lambda z, y: lovasz(z, y, hinge="relu"), logits, truth)[1].count_nonzero() == 0
    assert with_gradient(lovasz, logits, truth)[1][1:-1].count_nonzero() > 0


def test_lovasz_of_hard_predictions_is_the_jaccard_loss() -> None:
    truth = batch(images=6, side=20)[1]
    predicted = truth.roll(3, -1)
    # Margin 0 where right and 1 where wrong: the extension meets the function at the corners of the cube.
    logits = torch.where(predicted == truth, 2 * truth - 1, torch.zeros(()))
    overlap, union = (predicted * truth).sum((1, 2)), torch.maximum(predicted, truth).sum((1, 2))
    expected = torch.where(union > 0, 1 - overlap / union, torch.zeros(()))
    torch.testing.assert_close(lovasz(logits, truth, hinge="relu"), expected)


def test_bce_is_the_mean_of_minus_log_likelihood() -> None:
    logits, truth = batch()
    p = logits.double().sigmoid()
    expected = -(truth * p.log() + (1 - truth) * (1 - p).log()).mean((1, 2))
    torch.testing.assert_close(bce(logits, truth).double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
def test_focal_is_the_papers(gamma: float) -> None:
    def paper(logits: Tensor, truth: Tensor) -> Tensor:
        p_t = torch.where(truth > 0, logits.double().sigmoid(), 1 - logits.double().sigmoid())
        return (-((1 - p_t) ** gamma) * p_t.log()).mean((1, 2)).float()

    assert_same(lambda z, y: focal(z, y, gamma=gamma), paper, *batch())


def test_focal_without_focus_is_bce() -> None:
    assert_same(lambda z, y: focal(z, y, gamma=0), bce, *batch())


@pytest.mark.parametrize("smooth", [1.0, 0.1])
def test_dice_is_its_formula(smooth: float) -> None:
    def formula(p: Tensor, t: Tensor) -> Tensor:
        return 1 - (2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth)

    logits, truth = batch()
    each = torch.stack([formula(z.sigmoid(), y) for z, y in zip(logits, truth, strict=True)])
    torch.testing.assert_close(dice(logits, truth, smooth=smooth), each)
    whole = formula(logits.sigmoid(), truth).expand(4)
    torch.testing.assert_close(dice(logits, truth, smooth=smooth, whole_batch=True), whole)


def test_dice_of_known_overlaps() -> None:
    truth = torch.zeros(3, 4, 4)
    truth[1:, :2] = 1
    logits = torch.where(truth > 0, 40.0, -40.0)
    logits[2] = -logits[2]  # salt wherever there is none
    torch.testing.assert_close(dice(logits, truth), torch.tensor([0, 0, 1 - 1 / 17]))


@pytest.mark.parametrize("loss", [losses.lovasz, losses.symmetric_lovasz])
def test_lovasz_of_soft_labels_is_that_of_their_classes(loss: Loss) -> None:
    logits, truth = batch(share=0.4)
    soft = 0.2 + 0.6 * truth
    assert torch.equal(loss(logits, soft), loss(logits, truth))
    assert torch.equal(losses.holds_salt(soft), losses.holds_salt(truth))


def test_the_has_salt_loss_asks_whether_any_pixel_is_salt() -> None:
    truth = torch.zeros(3, 4, 4)
    truth[1, 2, 3] = 1
    truth[2] = 1
    logits = torch.tensor([0.7, 0.7, -2.0])
    expected = [math.log1p(math.exp(0.7)), math.log1p(math.exp(-0.7)), math.log1p(math.exp(2.0))]
    assert has_salt_loss(logits, truth).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("over", "divisor"), [("salt", 2), ("all", 4)])
def test_a_mean_over_images_with_salt_leaves_the_others_out(over: Literal["salt", "all"], divisor: int) -> None:
    truth = torch.zeros(4, 3, 3)
    truth[1, 2, 0] = truth[3] = 1
    per_image = torch.tensor([100.0, 2.0, 100.0, 5.0])
    assert holds_salt(truth).tolist() == [False, True, False, True]
    assert mean_with_salt(per_image, truth, over=over).item() == pytest.approx(7 / divisor)
    assert mean_with_salt(per_image, torch.zeros(4, 3, 3), over=over).item() == 0


def test_a_mixed_loss_is_the_weighted_sum_with_each_option_where_it_belongs() -> None:
    logits, truth = batch()
    options = {"hinge": "relu", "whole_batch": True, "gamma": 1.5, "smooth": 0.5}
    found = mixed_loss(
        logits,
        truth,
        weights={"bce": 0.5, "dice": 2.0, "focal": 3.0, "lovasz": 0.25, "symmetric_lovasz": 0.125},
        options=options,
    )
    expected = (
        0.5 * bce(logits, truth)
        + 2 * dice(logits, truth, smooth=0.5, whole_batch=True)
        + 3 * focal(logits, truth, gamma=1.5)
        + 0.25 * lovasz(logits, truth, hinge="relu", whole_batch=True)
        + 0.125 * symmetric_lovasz(logits, truth, hinge="relu", whole_batch=True)
    )
    torch.testing.assert_close(found, expected)


@every_loss
def test_huge_logits_give_finite_losses_and_gradients(loss: Loss) -> None:
    _, truth = batch()
    for size in (1e3, 1e30):
        for logits in (torch.full_like(truth, size), torch.full_like(truth, -size), size * (2 * truth - 1)):
            value, gradient = with_gradient(loss, logits, truth)
            assert value.isfinite().all()
            assert gradient.isfinite().all()


@every_loss
def test_bfloat16_logits_are_reckoned_with_in_float32(loss: Loss) -> None:
    logits, truth = batch(side=64)
    logits = logits.bfloat16()
    value, gradient = with_gradient(loss, logits, truth)
    assert value.dtype == torch.float32
    expected, expected_gradient = with_gradient(loss, logits.float(), truth)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient.bfloat16())


@every_loss
def test_autocast_changes_no_loss(loss: Loss) -> None:
    logits, truth = batch(side=64)
    expected = loss(logits, truth)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(logits, truth), expected)


@every_loss
def test_masks_may_be_bytes(loss: Loss) -> None:
    logits, truth = batch()
    assert torch.equal(loss(logits, truth.to(torch.uint8)), loss(logits, truth))


@pytest.mark.parametrize("loss", [bce, dice, focal, lovasz, symmetric_lovasz])
def test_an_image_has_the_same_loss_in_any_company(loss: Loss) -> None:
    logits, truth = batch(images=6)
    alone = torch.cat([loss(logits[i : i + 1], truth[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(loss(logits, truth), alone)


# Pixels that nobody has labelled.

MIXES: dict[str, tuple[dict[LossName, float], dict[str, Any]]] = {
    "bce": ({"bce": 1.0}, {}),
    "dice": ({"dice": 1.0}, {}),
    "dice, whole batch": ({"dice": 1.0}, {"whole_batch": True}),
    "focal": ({"focal": 1.0}, {}),
    "lovasz relu": ({"lovasz": 1.0}, {"hinge": "relu"}),
    "lovasz elu, whole batch": ({"lovasz": 1.0}, {"whole_batch": True}),
    "symmetric": ({"bce": 0.1, "symmetric_lovasz": 0.9}, {}),
}


@pytest.mark.parametrize("name", MIXES)
def test_a_loss_is_that_of_the_known_pixels_alone_and_moves_no_other(name: str) -> None:
    weights, options = MIXES[name]
    logits, truth = batch(side=6)
    logits[:, 4:] *= 50  # wrong by as much as can be, if anybody asked
    partial = truth.clone()
    partial[:, 4:] = math.nan
    logits.requires_grad_()
    found = mixed_loss(logits, partial, weights=weights, options=options, is_partial=True)
    expected = mixed_loss(logits[:, :4], truth[:, :4], weights=weights, options=options)
    torch.testing.assert_close(found, expected)
    (slope,) = torch.autograd.grad(found.sum(), logits)
    assert not slope[:, 4:].any()
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), logits)[0])


@pytest.mark.parametrize("name", MIXES)
def test_an_image_without_a_known_pixel_loses_nothing(name: str) -> None:
    weights, options = MIXES[name]
    logits, _ = batch()
    logits.requires_grad_()
    found = mixed_loss(logits, torch.full_like(logits, math.nan), weights=weights, options=options, is_partial=True)
    torch.testing.assert_close(found, torch.zeros(len(logits)))
    assert not torch.autograd.grad(found.sum(), logits)[0].any()


@pytest.mark.parametrize("name", MIXES)
def test_where_all_is_known_nothing_changes(name: str) -> None:
    weights, options = MIXES[name]
    logits, truth = batch()
    plain = mixed_loss(logits, truth, weights=weights, options=options)
    torch.testing.assert_close(mixed_loss(logits, truth, weights=weights, options=options, is_partial=True), plain)


def test_the_has_salt_loss_keeps_silent_where_nobody_can_say() -> None:
    truth = torch.zeros(4, 3, 3)
    truth[1, 0, 0] = 1
    truth[2:, 2] = math.nan  # some unknown, with salt elsewhere and without
    truth[2, 0, 0] = 1
    logits = torch.tensor([0.5, -1.0, 2.0, 3.0])
    expected = [math.log(1 + math.exp(0.5)), math.log(1 + math.exp(1.0)), math.log(1 + math.exp(-2.0)), 0.0]
    assert has_salt_loss(logits, truth).tolist() == pytest.approx(expected)
    assert holds_salt(truth).tolist() == [False, True, True, False]
