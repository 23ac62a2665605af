#!/usr/bin/python
"""Has a key that signs what an aircraft's seats obey."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pki_files import sync, write
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DOCUMENTATION = """
module: pki_signing_key
author: The ife authors
short_description: Has a key that signs what an aircraft's seats obey
description:
  - C(<name>.key) is an Ed25519 private key (RFC 8032), its 32 bytes and nothing else.
  - C(<name>.pub) has the public keys that the seats trust, one a line, base64url without
    padding (RFC 4648). The first is that of C(<name>.key). The second, if there is one, is
    that of the key before it, for as long as some still sign with it.
  - A new C(<name>.key) is made when there is none.
options:
  directory:
    description: Where the files go. It must be there.
    type: path
    required: true
  name:
    description: What the files are called.
    type: str
    required: true
attributes:
  check_mode:
    support: full
"""

EXAMPLES = """
- name: Have the key that signs the commands
  pki_signing_key:
    directory: pki
    name: command
"""

RETURN = """
made:
  description: Whether the key is a new one.
  returned: always
  type: bool
"""

KEY_BYTES = 32
MAX_TRUSTED = 2


def encode(key: bytes) -> str:
    """A public key as a line of ``<name>.pub``."""
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def is_public_key(line: str) -> bool:
    """Whether this could be a line of ``<name>.pub``."""
    try:
        return len(base64.b64decode(line + "=", altchars=b"-_", validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def trusted(public_key: str, there: str) -> str:
    """What ``<name>.pub`` is to hold: this key, then the one before it, if it was there."""
    others = [line for line in there.split() if line != public_key and is_public_key(line)]
    return "".join(f"{line}\n" for line in [public_key, *others][:MAX_TRUSTED])


def read_key(path: Path) -> bytes | None:
    """The private key; None when there is none.

    Raises:
        ValueError: the file is something else, or others can read it.
    """
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} has {len(key)} bytes, a key has {KEY_BYTES}: move it away")
    if path.stat().st_mode & 0o077:
        raise ValueError(f"{path} could be read by others, so it is no secret: move it away")
    return key


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    directory = Path(module.params["directory"])
    name = module.params["name"]
    private_file, public_file = directory / f"{name}.key", directory / f"{name}.pub"
    try:
        key = read_key(private_file)
        made = key is None
        key = key or os.urandom(KEY_BYTES)
        public = encode(Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw())
        there = public_file.read_text() if public_file.exists() else ""
        changed = made or trusted(public, there) != there
        if changed and not module.check_mode:
            # The seats must trust a key before anything is signed with it.
            write(public_file, trusted(public, there).encode(), 0o644)
            if made:
                write(private_file, key, 0o600)
            sync(directory)
    except (OSError, ValueError) as error:
        module.fail_json(f"cannot have a signing key: {error}")
    module.exit_json(changed=changed, made=made)


if __name__ == "__main__":
    main()
