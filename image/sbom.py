"""What the image is made of, as CycloneDX 1.6 (https://cyclonedx.org), for whoever tracks flaws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from image.checkout import Checkout
from image.lock import Lock, Package
from image.settings import IMAGE_ID


def sbom(
    lock: Lock, python: Mapping[str, str], scripts: Mapping[str, str], checkout: Checkout
) -> str:
    """The document, as JSON.

    Args:
        lock: the Debian packages; those of the image and its initrd are listed.
        python: the Python packages that are installed, with their versions.
        scripts: the packages of npm that the crew's page has, with their versions.
        checkout: what it is made of.
    """
    used = {p.sha256: p for what in ("image", "initrd") for p in lock.used_by(what)}
    components = [_debian(package, lock.suite) for package in used.values()]
    components += [_python(*package) for package in python.items()]
    components += [_npm(*package) for package in scripts.items()]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(checkout.epoch, UTC).isoformat(),
            "component": {"type": "firmware", "name": IMAGE_ID, "version": checkout.version},
        },
        "components": sorted(components, key=lambda component: str(component["purl"])),
    }
    return json.dumps(document, indent=1) + "\n"


def _debian(package: Package, suite: str) -> dict[str, Any]:
    place = f"deb/debian/{quote(package.name)}@{quote(package.version)}"
    return {
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": f"pkg:{place}?arch={package.architecture}&distro={suite}",
        "hashes": [{"alg": "SHA-256", "content": package.sha256}],
    }


def _python(name: str, version_: str) -> dict[str, Any]:
    return {
        "type": "library",
        "name": name,
        "version": version_,
        "purl": f"pkg:pypi/{quote(name.lower())}@{quote(version_)}",
    }


def _npm(name: str, version_: str) -> dict[str, Any]:
    return {
        "type": "library",
        "name": name,
        "version": version_,
        "purl": f"pkg:npm/{quote(name)}@{quote(version_)}",
    }
