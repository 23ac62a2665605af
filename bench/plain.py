"""Plain Debian 13 on a disk for a virtual machine, with its kernel beside it like the image."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from image.settings import BUILD, Source
from image.tools import newest

PACKAGES = ("linux-image-amd64", "openssh-server", "systemd-sysv")
COMMAND_LINE = "root=/dev/vda rw console=ttyS0 loglevel=4"
"""As talkative as the image: each letter on an emulated serial port takes its time."""

BY_DHCP = "[Match]\nType=ether\n[Network]\nDHCP=yes\n"

TIMEOUT = 900


def install(folder: Path, *packages: str, files: Path | None = None) -> Path:
    """Install it, as root.

    Args:
        folder: where the disk goes, and what is in between.
        packages: that it has beside those of the suite that are important, and `PACKAGES`.
        files: a tree of what it has in addition.

    Returns:
        The disk.
    """
    root, disk = folder / "plain", folder / "plain.raw"
    include = ",".join((*PACKAGES, *packages))
    _run(
        *("mmdebstrap", "--quiet", "--variant=important", f"--include={include}"),
        *(Source.suite, str(root), f"{Source.mirror}/debian"),
    )
    if files is not None:
        shutil.copytree(files, root, symlinks=True, dirs_exist_ok=True)
    with disk.open("wb") as file:
        file.truncate(4 << 30)
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk))
    newest(BUILD / "cache/tools").run(
        [
            *("ukify", "build", "--linux=/plain/vmlinuz", "--initrd=/plain/initrd.img"),
            *(f"--cmdline={COMMAND_LINE}", "--output=/out/plain.efi"),
        ],
        "make plain Debian's kernel image",
        {root: "/plain", folder: "/out"},
        {},
    )
    return disk


def ask_by_dhcp(files: Path) -> None:
    """Put into the tree of `install` what asks for an address on every cable."""
    network = files / "etc/systemd/network"
    network.mkdir(parents=True)
    (network / "80-dhcp.network").write_text(BY_DHCP)
    wanted = files / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(parents=True)
    (wanted / "systemd-networkd.service").symlink_to(
        "/usr/lib/systemd/system/systemd-networkd.service"
    )


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=TIMEOUT)
