"""Boots the image in a virtual machine, for people, for tests and for Molecule.

    python -m image.vm [IMAGE] [--memory MIB] [--cpus N] [--network NAME=ADDRESS]... [--tpm]
                             [--credential NAME=VALUE]... [--ssh-config FILE] [--direct]

boots it and stays until Ctrl-C. In Python:

    with VM(Machine(image, networks=(Network.parse("crew=198.18.3.1/24"),))) as vm:
        vm.boot()
        vm.wait_for_ssh()
        vm.run("systemctl is-system-running")

What a machine consists of, all of it gone when the block ends or its process dies:

    keeper ─ holds the network namespace, and clears up when whoever started it is gone
      ├── qemu     q35, OVMF (or the kernel directly)
      │              └── tap ── bridge "crew" 198.18.3.1, one for each network
      ├── nbdkit   the disk: what the guest has not flushed is in its memory, lost by a power cut
      │              └── disk.qcow2, laid over the image, which is never written to
      ├── swtpm    a TPM 2.0, if asked for
      └── nc       SSH's way into the namespace
"""

from __future__ import annotations


class VmError(Exception):
    """A virtual machine did not do what it should; the message says what it did."""
