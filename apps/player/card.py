"""The announcement screen: a plain picture with a text in the middle, as files that libvlc shows.

The text is a subtitle (Advanced SubStation Alpha), because libass sets every script, and right to
left; it is white on near black (14 CFR 382.69 wants captions of high contrast).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

WIDTH, HEIGHT = 640, 360
_COLOUR = bytes((12, 16, 36))

_SUBTITLES = """[Script Info]
ScriptType: v4.00+
PlayResX: {width}
PlayResY: {height}

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Card,Sans,44,&H00FFFFFF,&H00FFFFFF,&H00000000,&H00000000,\
-1,0,0,0,100,100,0,0,1,0,0,5,40,40,40,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.00,99:00:00.00,Card,,0,0,0,,{text}
"""

_NO_MARKUP = str.maketrans({"{": "(", "}": ")", "\\": "/", "\n": " ", "\r": " "})
"""What would be an instruction to libass."""


def write_picture(path: Path) -> None:
    """A picture of one colour, as PNG (ISO/IEC 15948)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))
        )

    head = struct.pack("!IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + _COLOUR * WIDTH) * HEIGHT)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def write_text(path: Path, text: str) -> None:
    """A text for the middle of it, as subtitles."""
    line = text.translate(_NO_MARKUP)
    path.write_text(_SUBTITLES.format(width=WIDTH, height=HEIGHT, text=line))
