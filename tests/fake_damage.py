"""Files as they come from bad disks, bad links and bad programs."""

import random

EXTREMES = (b"\0", b"\xff", b"\x7f\xff", b"\x80\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\x7f\x80\0\0", b"\xff" * 8)


def damaged_segy(content: bytes, rng: random.Random, *, header_bytes: int, stride: int) -> bytes:
    """Bytes flipped, fields of any header set to extremes, pieces spliced in, moved and cut off."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 30))):
        trace = 3600 + stride * rng.randrange((len(content) - 3600) // stride)
        place = rng.choice(
            (3200 + rng.randrange(400), trace + rng.randrange(header_bytes), rng.randrange(len(changed)))
        )
        match rng.choice(("flip", "extreme", "extreme", "same in all", "splice")):
            case "flip":
                changed[place] ^= 1 << rng.randrange(8)
            case "extreme":
                value = rng.choice((*EXTREMES, rng.randbytes(4)))
                changed[place : place + len(value)] = value
            case "same in all":
                value = rng.choice(EXTREMES)
                offset = rng.randrange(header_bytes)
                for start in range(3600 + offset, len(content) - 8, stride):
                    changed[start : start + len(value)] = value
            case "splice":
                start, length = rng.randrange(len(content)), rng.choice((1, 4, 240, stride))
                piece = content[start : start + length]
                changed[place : place + rng.choice((0, len(piece)))] = piece
    if rng.random() < 0.1:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, set to extremes, spliced in and cut off, of a file of any kind."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 30))):
        place = rng.randrange(len(changed))
        match rng.choice(("flip", "extreme", "splice")):
            case "flip":
                changed[place] ^= 1 << rng.randrange(8)
            case "extreme":
                value = rng.choice((*EXTREMES, rng.randbytes(4)))
                changed[place : place + len(value)] = value
            case "splice":
                start = rng.randrange(len(content))
                piece = content[start : start + rng.choice((1, 4, 16))]
                changed[place : place + rng.choice((0, len(piece)))] = piece
    if rng.random() < 0.2:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)
