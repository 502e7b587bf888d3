import pytest
import torch

from diapir.nets.coord import append_coordinates


@pytest.mark.parametrize("radius", [False, True])
def test_every_pixel_is_told_where_it_lies(radius: bool) -> None:
    maps = torch.randn(2, 3, 4, 6)
    found = append_coordinates(maps, radius=radius)
    assert found.shape == (2, 5 + radius, 4, 6)
    assert torch.equal(found[:, :3], maps)
    for tile in found:
        for row in range(4):
            for column in range(6):
                x, y = -1 + 2 * column / 5, -1 + 2 * row / 3
                wanted = [x, y, (x**2 + y**2) ** 0.5][: 2 + radius]
                torch.testing.assert_close(tile[3:, row, column], torch.tensor(wanted), atol=1e-6, rtol=1e-6)


def test_coordinates_have_the_type_of_the_maps() -> None:
    assert append_coordinates(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
