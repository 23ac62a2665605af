"""What runs a guest's processors: KVM where it works, else QEMU's own translator (TCG).

That ``/dev/kvm`` is there says little: inside another virtual machine it may be there, and guests
die on it. So each is tried with the firmware, which within a second or four says on its console
that it looks for something to boot.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from image.vm import VmError

FIRMWARE = Path("/usr/share/OVMF")
TIMEOUT = 30.0
"""Seconds for the firmware to get there; TCG on a busy machine takes some."""

SIGN = b"BdsDxe"
"""What OVMF says when it looks for something to boot."""

CACHE = Path(__file__).parents[2] / ".cache/vm/accelerator.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Accelerator:
    """One of QEMU's, with the processor that guests see."""

    name: str
    options: tuple[str, ...]


CANDIDATES = (
    Accelerator("kvm", ("-accel", "kvm", "-cpu", "host")),
    # Debian's kernel panics on the translator's `max`; Nehalem has all that Debian needs. As one of
    # AMD's it is not guarded against Meltdown, which a translator does not have: the guard
    # (page-table isolation) has each system call drop what is translated, a tenth of all the time.
    Accelerator(
        "tcg", ("-accel", "tcg,thread=multi", "-cpu", "Nehalem,vendor=AuthenticAMD,family=16")
    ),
)


def find() -> Accelerator:
    """The first that works; it is tried once for each time this machine boots.

    Raises:
        VmError: none does; the message has what QEMU said.
    """
    boot_id = BOOT_ID.read_text().strip()
    try:
        known = json.loads(CACHE.read_text())
    except (OSError, ValueError):
        known = {}
    for candidate in CANDIDATES:
        if known == {"boot_id": boot_id, "accelerator": candidate.name}:
            return candidate
    found = _try_all()
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    CACHE.write_text(json.dumps({"boot_id": boot_id, "accelerator": found.name}))
    return found


def _try_all() -> Accelerator:
    said = []
    for candidate in CANDIDATES:
        error = try_out(candidate)
        if error is None:
            return candidate
        said.append(f"{candidate.name}: {error}")
    raise VmError("QEMU runs no guest here\n" + "\n".join(said))


def try_out(candidate: Accelerator) -> str | None:
    """Boot the firmware with it; what went wrong, None if nothing did."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables, console, output = (folder / n for n in ("variables", "console", "output"))
        shutil.copy(FIRMWARE / "OVMF_VARS_4M.fd", variables)
        console.touch()
        with (
            output.open("wb") as file,
            subprocess.Popen(
                [
                    *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
                    *("-machine", "q35", *candidate.options, "-m", "256M"),
                    *(
                        "-drive",
                        f"if=pflash,format=raw,readonly=on,file={FIRMWARE}/OVMF_CODE_4M.fd",
                    ),
                    *("-drive", f"if=pflash,format=raw,file={variables}"),
                    *("-serial", f"file:{console}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            ) as process,
        ):
            deadline = time.monotonic() + TIMEOUT
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    if SIGN in console.read_bytes():
                        return None
                    time.sleep(0.05)
            finally:
                process.kill()
        return output.read_text(errors="replace").strip() or f"nothing within {TIMEOUT:.0f} s"
