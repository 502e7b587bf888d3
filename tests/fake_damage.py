"""Files as they come from bad disks, bad links and bad programs."""

import random
from collections.abc import Sequence

EXTREMES = (b"\0", b"\xff", b"\x7f\xff", b"\x80\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\x7f\x80\0\0", b"\xff" * 8)
STRIDES = {"f3.sgy": 390, "f3-withdead.sgy": 540, "volve10r12-full-twt-arb.sgy": 3640}
"""Bytes from one trace to the next of the real files."""


def damaged_segy(content: bytes, rng: random.Random, *, header_bytes: int, stride: int) -> bytes:
    """Bytes flipped, fields of any header set to extremes, pieces spliced in, moved and cut off."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 30))):
        trace = 3600 + stride * rng.randrange((len(content) - 3600) // stride)
        place = rng.choice(
            (3200 + rng.randrange(400), trace + rng.randrange(header_bytes), rng.randrange(len(changed)))
        )
        kind = rng.choice(("flip", "extreme", "extreme", "same in all", "splice"))
        if kind == "same in all":
            value = rng.choice(EXTREMES)
            offset = rng.randrange(header_bytes)
            for start in range(3600 + offset, len(content) - 8, stride):
                changed[start : start + len(value)] = value
        else:
            _hurt(changed, place, kind, content, rng, lengths=(1, 4, 240, stride))
    if rng.random() < 0.1:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, set to extremes, spliced in and cut off, of a file of any kind."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 30))):
        place = rng.randrange(len(changed))
        _hurt(changed, place, rng.choice(("flip", "extreme", "splice")), content, rng, lengths=(1, 4, 16))
    if rng.random() < 0.2:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


def _hurt(
    changed: bytearray, place: int, kind: str, content: bytes, rng: random.Random, *, lengths: Sequence[int]
) -> None:
    """Change it there; what is spliced in is a piece of the whole file, of one of the lengths."""
    match kind:
        case "flip":
            changed[place] ^= 1 << rng.randrange(8)
        case "extreme":
            value = rng.choice((*EXTREMES, rng.randbytes(4)))
            changed[place : place + len(value)] = value
        case "splice":
            start, length = rng.randrange(len(content)), rng.choice(lengths)
            piece = content[start : start + length]
            changed[place : place + rng.choice((0, len(piece)))] = piece
        case _:
            raise AssertionError(kind)
