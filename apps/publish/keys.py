"""The keys that sign content: Ed25519, one file each, encrypted with a passphrase."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner

from apps.common.files import write_whole

MIN_PASSPHRASE = 12
PASSPHRASE = "IFE_PUBLISH_PASSPHRASE"  # noqa: S105 - the name of a variable
"""The variable that may hold the passphrase, where no file does."""

_FILE = re.compile(r"([a-z]+)-([1-9][0-9]?)\.pem")


class KeysError(Exception):
    """A key cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Keys:
    """The keys in some folders, each ``<role>-<number>.pem`` (PKCS #8).

    Args:
        folders: those that are at hand; a folder that is not there has no keys.
        passphrase: of all of them.
    """

    folders: tuple[Path, ...]
    passphrase: bytes

    def of(self, role: str) -> list[CryptoSigner]:
        """The keys of a role that are at hand, in the order of their numbers.

        Raises:
            KeysError: one cannot be read.
        """
        return [self._load(path) for _, path in sorted(self._files(role))]

    def make(self, folder: Path, role: str) -> CryptoSigner:
        """One more key of a role, in `folder`.

        Raises:
            OSError: it cannot be written.
        """
        number = max((number for number, _ in self._files(role)), default=0) + 1
        key = Ed25519PrivateKey.generate()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{role}-{number}.pem"
        encryption = BestAvailableEncryption(self.passphrase)
        write_whole(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        path.chmod(0o400)
        return CryptoSigner(key)

    def _files(self, role: str) -> Iterable[tuple[int, Path]]:
        for folder in self.folders:
            for path in folder.glob(f"{role}-*.pem"):
                if (match := _FILE.fullmatch(path.name)) and match[1] == role:
                    yield int(match[2]), path

    def _load(self, path: Path) -> CryptoSigner:
        try:
            key = load_pem_private_key(path.read_bytes(), self.passphrase)
        except (OSError, ValueError, TypeError) as error:
            raise KeysError(f"{path} cannot be opened, is it that passphrase? ({error})") from error
        return CryptoSigner(key)


def passphrase(file: Path | None) -> bytes:
    """From a file, or from `PASSPHRASE`: a command line is for everybody to read.

    Raises:
        KeysError: there is none, or it is too short.
    """
    try:
        text = file.read_bytes() if file else os.environb.get(PASSPHRASE.encode(), b"")
    except OSError as error:
        raise KeysError(f"{file}: {error.strerror}") from error
    if len(text.strip()) < MIN_PASSPHRASE:
        raise KeysError(
            f"give the passphrase of the keys, {MIN_PASSPHRASE} characters or more, "
            f"by --passphrase-file FILE or in {PASSPHRASE}"
        )
    return text.strip()
