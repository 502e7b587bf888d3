"""What the service takes at most: sizes, times and numbers, and the memory that these come to."""

from dataclasses import dataclass

from diapir.data.tiles import TILE

_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of everything that a stranger can ask for.

    Args:
        body_bytes: of one request's body.
        mask_bytes: of the body with a section's mask before and after, where that is longer than other bodies may be.
        bodies_bytes: of all the bodies that are held at once.
        body_s: time in which a body has to be there; of a longer one in proportion.
        pixels: of one image or section, known from its header before it is decoded; of a narrow one, with what it is
            padded by.
        answer_s: time in which an answer has to be given, with its way through the nets.
        requests: that are worked on at once.
        connections: that are open at once, whether they ask for something or not.
        header_s: time in which a connection has to ask for something, by all of a request's headers.
        waiting: images that wait for the nets or are on their way through them.
        waiting_pixels: of all these together.
        coders: threads that decode images and encode answers.
        batch: tiles that go through a net together.
        batches: that are worked on at once, each on its share of the cores; one where the nets are on a GPU.
        gather_s: time in which a batch waits while fewer images are there than a moment ago, for clients who were
            answered ask again.
    """

    body_bytes: int = 24 * _MIB
    mask_bytes: int = 0
    bodies_bytes: int = 96 * _MIB
    body_s: float = 20.0
    pixels: int = 1 << 22
    answer_s: float = 120.0
    requests: int = 128
    connections: int = 512
    header_s: float = 10.0
    waiting: int = 64
    waiting_pixels: int = 1 << 23
    coders: int = 2
    batch: int = 16
    batches: int = 4
    gather_s: float = 0.05

    @property
    def memory_bytes(self) -> int:
        """What all requests together take at most, besides the nets and their batches."""
        coding = self.coders * (self.pixels * CODING_BYTES + 4 * self.body_bytes)
        # The masks of one survey are saved one after another.
        saving = self.mask_bytes // 2 * CODING_BYTES
        return self.bodies_bytes + coding + saving + self.waiting_pixels * WAITING_BYTES


CODING_BYTES = 96
"""Of a pixel while it is decoded or encoded; most for the run-length text of a mask that changes at every pixel."""
WAITING_BYTES = 32
"""Of a pixel that waits: its grey value twice, its sum and its weight in float64, and its probability."""

USUAL = Limits()


def padded_pixels(shape: tuple[int, int]) -> int:
    """What an image (rows, columns) takes on its way: a side that is shorter than a tile's is mirrored up to that."""
    return max(shape[0], TILE) * max(shape[1], TILE)


def is_taken(shape: tuple[int, int], *, most_pixels: int) -> bool:
    """Whether an image (rows, columns) has few enough pixels, and is not padded to more; one tile is never too many."""
    return shape[0] * shape[1] <= most_pixels and padded_pixels(shape) <= max(most_pixels, TILE * TILE)
