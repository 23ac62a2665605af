"""What the bench's aircraft shows and says: clips, announcements and music, made here, once.

Voices are espeak-ng's, pictures and tones ffmpeg's (`bench.media.clips`). None of it is committed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML

from bench.instance import BenchError
from bench.media.clips import Clip
from bench.media.clips import make as make_clip

TIMEOUT = 120

CHIME = "aevalsrc='0.4*exp(-2*t)*(sin(2*PI*587*t)+sin(2*PI*740*t))':d=1.2:s=48000"
MUSIC = "aevalsrc='0.1*(sin(2*PI*262*t)+sin(2*PI*330*t)+sin(2*PI*392*t))':d=12:s=48000"

MESSAGES = {
    "welcome": {
        "en": "Ladies and gentlemen, welcome aboard. Please stow your hand luggage.",
        "de": "Meine Damen und Herren, willkommen an Bord. Bitte verstauen Sie Ihr Handgepäck.",
    },
    "seatbelts": {
        "en": "Please fasten your seat belts.",
        "de": "Bitte schnallen Sie sich an.",
    },
}

_SHAPE = (1200, "640x360")
"""Rate in kbit/s and size: as much as a workstation makes in a few seconds."""

CLIPS = {
    "channels/news.ts": Clip("News", 20, 440, *_SHAPE),
    "channels/weather.ts": Clip("Weather", 15, 494, *_SHAPE),
    "channels/sports.ts": Clip("Sports", 20, 523, *_SHAPE),
    "channels/film.ts": Clip("Film", 30, 587, *_SHAPE),
    "channels/cartoons.ts": Clip("Cartoons", 20, 659, *_SHAPE),
    "imposed/boarding-en.ts": Clip("Boarding", 20, 330, *_SHAPE),
    "imposed/safety-en.ts": Clip("Safety EN", 30, 350, *_SHAPE),
    "imposed/safety-de.ts": Clip("Safety DE", 30, 370, *_SHAPE),
    "imposed/arrival-en.ts": Clip("Arrival", 20, 390, *_SHAPE),
}

CHANNELS = {
    "channel-news": ("News", ["channels/news.ts", "channels/weather.ts"]),
    "channel-sports": ("Sports", ["channels/sports.ts"]),
    "channel-film": ("Film", ["channels/film.ts"]),
    "channel-cartoons": ("Cartoons", ["channels/cartoons.ts"]),
}
IMPOSED = {
    "boarding": ("Boarding", {"en": "imposed/boarding-en.ts"}),
    "safety": ("Safety", {"en": "imposed/safety-en.ts", "de": "imposed/safety-de.ts"}),
    "arrival": ("Arrival", {"en": "imposed/arrival-en.ts"}),
}


def make(store: Path) -> bool:
    """Make all of the store anew, unless it was made of what is wanted now: then False.

    It has `media` (clips), `pram` (announcements), `music`, and `channels.yml`.

    Raises:
        BenchError: ffmpeg or espeak-ng cannot do it.
    """
    stamp = store / "made-of"
    wanted = repr((CHIME, MUSIC, MESSAGES, CHANNELS, IMPOSED, CLIPS))
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    shutil.rmtree(store, ignore_errors=True)
    for name in ("media", "pram", "music"):
        (store / name).mkdir(parents=True)
    try:
        for name, clip in CLIPS.items():
            make_clip(store / "media" / name, clip)
    except RuntimeError as error:
        raise BenchError(str(error)) from error
    _wav(store / "music/boarding.wav", ["-f", "lavfi", "-i", MUSIC])
    _announcements(store / "pram")
    with (store / "channels.yml").open("w") as file:
        YAML().dump(_channels(), file)
    stamp.write_text(wanted)
    return True


def speak(text: str, language: str, path: Path) -> None:
    """Have a text spoken into a WAV file as the PA plays them: 48 kHz, one channel, 16 bits.

    Raises:
        BenchError: espeak-ng or ffmpeg cannot do it.
    """
    voice = _run(["espeak-ng", "-v", language, "-s", "150", "--stdout", "--", text], b"")
    _wav(path, ["-f", "wav", "-i", "-"], voice)


def _announcements(folder: Path) -> None:
    _wav(folder / "chime.wav", ["-f", "lavfi", "-i", CHIME])
    for name, texts in MESSAGES.items():
        for language, text in texts.items():
            speak(text, language, folder / f"{name}-{language}.wav")
    index = {
        "chimes": {"high-low": "chime.wav"},
        "messages": {
            name: {
                "chime": "high-low",
                "languages": {
                    language: {"title": text[:40], "file": f"{name}-{language}.wav"}
                    for language, text in texts.items()
                },
            }
            for name, texts in MESSAGES.items()
        },
    }
    (folder / "announcements.json").write_text(json.dumps(index, indent=1))


def _channels() -> dict[str, object]:
    return {
        "channels": {
            name: {"names": {"en": title}, "group": f"239.192.80.{number}", "playlist": files}
            for number, (name, (title, files)) in enumerate(CHANNELS.items(), start=1)
        },
        "imposed": {
            name: {"names": {"en": title}, "group": f"239.192.81.{number}", "files": files}
            for number, (name, (title, files)) in enumerate(IMPOSED.items(), start=1)
        },
    }


def _wav(path: Path, source: Iterable[str], stdin: bytes = b"") -> None:
    shape = ("-ar", "48000", "-ac", "1", "-c:a", "pcm_s16le", "-bitexact")
    _run(["ffmpeg", "-v", "error", "-nostdin", "-y", *source, *shape, str(path)], stdin)


def _run(command: list[str], stdin: bytes) -> bytes:
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{command[0]} does not run: {error}") from error
    if done.returncode != 0:
        raise BenchError(f"{command[0]} said {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
