"""Takes a unified kernel image apart: a PE file whose sections are the kernel and what it needs."""

from __future__ import annotations

import struct
from pathlib import Path

from image.vm import VmError

_COFF = struct.Struct("<4sHHIIIHH")
_SECTION = struct.Struct("<8sIIIIIIHHI")


def sections(path: Path) -> dict[str, bytes]:
    """The contents of its sections by name, for example ``.linux``, ``.initrd``, ``.cmdline``.

    Raises:
        VmError: it is no PE file.
    """
    data = path.read_bytes()
    try:
        (start,) = struct.unpack_from("<I", data, 0x3C)
        signature, _, count, _, _, _, optional, _ = _COFF.unpack_from(data, start)
        if data[:2] != b"MZ" or signature != b"PE\0\0":
            raise VmError(f"{path} is no unified kernel image")
        table = start + _COFF.size + optional
        found = {}
        for index in range(count):
            name, size, _, raw_size, offset, *_ = _SECTION.unpack_from(
                data, table + index * _SECTION.size
            )
            found[name.rstrip(b"\0").decode()] = data[offset : offset + min(size, raw_size)]
    except (struct.error, UnicodeDecodeError) as error:
        raise VmError(f"{path} is no unified kernel image: {error}") from error
    return found
