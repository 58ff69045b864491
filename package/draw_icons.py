"""Draw the app's icons and logos into package/app/static/, with nothing but the standard library.

    python package/draw_icons.py

Bars as of a list of scored names, the last one flagged; the logos add the name in a 5x7 font.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

STATIC = Path(__file__).resolve().parent / "app/static"

Colour = tuple[int, int, int, int]
CLEAR: Colour = (0, 0, 0, 0)
GROUND: Colour = (11, 61, 79, 255)
BAR: Colour = (230, 240, 243, 255)
FLAG: Colour = (245, 166, 35, 255)
TEXT: Colour = (120, 140, 150, 255)  # legible on light and on dark

#: left, top, right, bottom in 36ths of the icon, and the colour.
BARS = ((8, 8, 28, 12, BAR), (8, 16, 22, 20, BAR), (8, 24, 26, 28, FLAG))
#: Rows of the font's letters, as bits from left to right.
FONT = {
    "d": (1, 1, 13, 19, 17, 17, 15), "n": (0, 0, 30, 17, 17, 17, 17),
    "s": (0, 0, 15, 16, 14, 1, 30), "Q": (14, 17, 17, 17, 21, 18, 13),
    "m": (0, 0, 26, 21, 21, 21, 21), "o": (0, 0, 14, 17, 17, 17, 14),
}  # fmt: skip


def main() -> None:
    """Write the six files that Splunk looks for."""
    STATIC.mkdir(parents=True, exist_ok=True)
    for suffix, scale in (("", 1), ("_2x", 2)):
        for name in ("appIcon", "appIconAlt"):
            write(STATIC / f"{name}{suffix}.png", 36 * scale, 36 * scale, scale)
        write(STATIC / f"appLogo{suffix}.png", 160 * scale, 40 * scale, scale)


def write(path: Path, width: int, height: int, scale: int) -> None:
    """Write a PNG (RFC 2083) of 8-bit RGBA."""
    rows = b"".join(
        b"\0" + b"".join(bytes(pixel(x // scale, y // scale)) for x in range(width))
        for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


def pixel(x: int, y: int) -> Colour:
    """Return the colour at a place: the icon on the left, the name to the right of it."""
    if x < 36:
        corner = min(x, 35 - x) + min(y, 35 - y) < 4 or y >= 36
        inside = (colour for x1, y1, x2, y2, colour in BARS if x1 <= x < x2 and y1 <= y < y2)
        return CLEAR if corner else next(inside, GROUND)
    letter, bit = divmod((x - 44) // 2, 7)
    row = (y - 11) // 2
    if 0 <= row < 7 and 0 <= letter < 7 and FONT["dnsQmon"[letter]][row] & 16 >> bit:
        return TEXT
    return CLEAR


if __name__ == "__main__":
    main()
