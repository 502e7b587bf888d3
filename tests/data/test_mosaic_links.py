import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from diapir.data.mosaic_links import Links, find_links
from fake_surveys import strangers, survey_tiles

Pair = tuple[int, int, bool]


def pairs(links: Links) -> dict[Pair, float]:
    return {
        (int(first), int(second), bool(below)): float(strength)
        for first, second, below, strength in zip(
            links.first, links.second, links.is_below, links.strength, strict=True
        )
    }


def slow_links(images: NDArray[np.uint8], *, most_distance: float, least_compatibility: float) -> dict[Pair, float]:
    """The search in its plainest form: every distance in float64, every pair by itself."""
    pixels = images.astype(np.float64)

    def edge(lines: NDArray[np.float64]) -> NDArray[np.float64]:
        outwards = 2 * lines[:, 0] - lines[:, 1]
        outwards = (outwards - outwards.mean(0)) / outwards.std(0, ddof=1)
        spread = outwards.std(1, ddof=1, keepdims=True)
        return np.asarray((outwards - outwards.mean(1, keepdims=True)) / spread)

    left, right = edge(pixels.swapaxes(1, 2)), edge(pixels[:, :, ::-1].swapaxes(1, 2))
    top, bottom = edge(pixels), edge(pixels[:, ::-1])
    found = {}
    for is_below, distance in ((False, cdist(right, left)), (True, cdist(bottom, top))):
        for one in range(len(images)):
            for other in range(len(images)):
                across, back = np.sort(distance[one])[:2], np.sort(distance[:, other])[:2]
                is_mutual = distance[one, other] == across[0] == back[0]
                strength = 1 - max(across[0] / across[1], back[0] / back[1])
                if is_mutual and one != other and across[0] < most_distance and strength > least_compatibility:
                    found[one, other, is_below] = strength
    return found


@pytest.mark.parametrize(("most_distance", "least_compatibility"), [(10, 0.25), (10, 0.0), (8, 0.05), (2.5, 0.25)])
def test_links_are_those_of_the_plain_search(most_distance: float, least_compatibility: float) -> None:
    images = np.concatenate([survey_tiles(3, 4, seed=0), strangers(150, seed=3)])
    images = images[np.random.default_rng(0).permutation(len(images))]
    found = find_links(images, most_distance=most_distance, least_compatibility=least_compatibility)
    slow = slow_links(images, most_distance=most_distance, least_compatibility=least_compatibility)
    assert pairs(found) == pytest.approx(slow)


def test_every_edge_is_told() -> None:
    told: list[int] = []
    find_links(survey_tiles(10, 20, seed=0), advance=told.append)
    assert sum(told) == 4 * 200
    assert len(told) > 4
