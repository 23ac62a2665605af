"""Public keys in a file, one on each line."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from apps.common.settings import SettingsError


def read_keys(path: Path) -> list[bytes]:
    """The keys of a file: on each line 32 bytes in base64url (RFC 4648), or a # remark.

    Raises:
        SettingsError: it cannot be read, or a line is no key.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the public keys cannot be read: {error}") from error
    keys = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != 32:
            raise SettingsError(f"{path}, line {number}: not 32 bytes in base64url")
        keys.append(key)
    if not keys:
        raise SettingsError(f"{path} holds no public key")
    return keys
