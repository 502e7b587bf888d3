import torch

from diapir.nets.deep_supervision import ImageHead, beside, resized


def test_maps_that_fit_are_not_touched() -> None:
    maps = torch.randn(1, 2, 3, 4)
    assert resized(maps, (3, 4)) is maps


def test_nearest_doubling_repeats_every_pixel() -> None:
    maps = torch.randn(1, 2, 3, 4)
    assert torch.equal(resized(maps, (6, 8), mode="nearest"), maps.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_bilinear_doubling_mixes_three_to_one() -> None:
    row = torch.tensor([0.0, 4.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(resized(row, (1, 4))[0, 0, 0], torch.tensor([0.0, 1.0, 3.0, 4.0]))


def test_the_image_stands_beside_every_pixel() -> None:
    pixels, image = torch.randn(2, 3, 4, 5), torch.randn(2, 6)
    both = beside(pixels, image)
    assert both.shape == (2, 9, 4, 5)
    assert torch.equal(both[:, :3], pixels)
    for i in range(4):
        for j in range(5):
            assert torch.equal(both[:, 3:, i, j], image)


def test_the_image_head_sees_means_of_maps_and_no_places() -> None:
    torch.manual_seed(0)
    head = ImageHead(6, features=4)
    maps = torch.randn(2, 6, 3, 3)
    features, logit = head(maps)
    assert features.shape == (2, 4)
    assert (features >= 0).all()
    assert logit.shape == (2,)
    shuffled = maps.flatten(2)[:, :, torch.randperm(9)].view_as(maps)
    torch.testing.assert_close(head(shuffled), (features, logit))


def test_dropout_of_the_image_head_works_in_training_alone() -> None:
    torch.manual_seed(0)
    head = ImageHead(64, features=4, dropout=0.5)
    maps = torch.randn(1, 64, 2, 2)
    assert not torch.equal(head(maps)[1], head(maps)[1])
    head.eval()
    assert torch.equal(head(maps)[1], head(maps)[1])
