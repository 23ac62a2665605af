"""The settings of the PA."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, InstanceOf, StringConstraints
from pydantic_settings import NoDecode

from apps.common.settings import Settings

INTERFACE = r"[A-Za-z0-9._-]{1,15}"


@dataclass(frozen=True, slots=True)
class Alsa:
    """A capture device by its name in ALSA: ``alsa:hw:CARD=handset``."""

    device: str


@dataclass(frozen=True, slots=True)
class Fifo:
    """A named pipe with samples as `arecord -t raw` writes them: ``fifo:/run/pilot.pcm``."""

    path: Path


@dataclass(frozen=True, slots=True)
class WavFile:
    """A WAV file, over and over: ``file:/usr/share/test.wav``."""

    path: Path


@dataclass(frozen=True, slots=True)
class Rtp:
    """L16 over multicast, of one sender: ``rtp:10.1.1.1@239.1.1.1:5004%avionics0``."""

    source: IPv4Address
    group: IPv4Address
    port: int
    interface: str


_RTP = re.compile(rf"rtp:([0-9.]+)@([0-9.]+):([0-9]{{1,5}})%({INTERFACE})")
_ALSA = re.compile(r"alsa:([A-Za-z0-9][A-Za-z0-9:,=_.-]{0,99})")
_PATH = re.compile(r"(fifo|file):(/[^\0]{1,200})")


def read_input(text: object) -> Alsa | Fifo | WavFile | Rtp:
    """Where a live source comes from.

    Raises:
        ValueError: it is written otherwise.
    """
    if not isinstance(text, str):
        raise ValueError("write it as text")  # noqa: TRY004 - what pydantic makes a message of
    if match := _ALSA.fullmatch(text):
        return Alsa(match[1])
    if match := _PATH.fullmatch(text):
        return Fifo(Path(match[2])) if match[1] == "fifo" else WavFile(Path(match[2]))
    if match := _RTP.fullmatch(text):
        group, port = IPv4Address(match[2]), int(match[3])
        if group.is_multicast and 0 < port < 65536:
            return Rtp(IPv4Address(match[1]), group, port, match[4])
    raise ValueError(
        "write alsa:DEVICE, fifo:/PATH, file:/PATH.wav or rtp:SENDER@GROUP:PORT%INTERFACE"
    )


Input = Annotated[
    InstanceOf[Alsa] | InstanceOf[Fifo] | InstanceOf[WavFile] | InstanceOf[Rtp],
    NoDecode,
    BeforeValidator(read_input),
]


class PaAudioSettings(Settings):
    """`layout` gives the areas; `pa_key` is the file with the seed of the key that signs.

    `boot_id` tells one boot of the machine from the next (the unit passes systemd's). The
    multicast interface is named, never left to the routing table, and so is `multicast_source`,
    the server's address there. The recordings' bounds are a number, MiB in all, and days on which
    somebody spoke.
    """

    layout: Path
    pa_key: Path
    boot_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    state_directory: Path
    multicast_interface: Annotated[str, StringConstraints(pattern=f"^{INTERFACE}$")]
    multicast_source: IPv4Address
    multicast_ttl: Annotated[int, Field(ge=1, le=255)] = 1
    runtime_directory: Path
    pilot_input: Input
    crew_input: Input
    pram_directory: Path = Path("/usr/share/ife/pram")
    music_directory: Path = Path("/usr/share/ife/music")
    recordings_kept: Annotated[int, Field(ge=1, le=10_000)] = 200
    recordings_mib: Annotated[int, Field(ge=1, le=100_000)] = 512
    recordings_days: Annotated[int, Field(ge=1, le=365)] = 7


def main(arguments: list[str]) -> int:
    """Check inputs as they are written; the exit code is 1 when one is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m apps.pa_audio.settings", description="Check where live sources come from."
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+")
    for text in parser.parse_args(arguments).inputs:
        try:
            read_input(text)
        except ValueError as error:
            print(f"{text}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
