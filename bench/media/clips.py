"""Makes clips for tests, benchmarks and the demo: a title, a time code, a tone. None is committed.

H.264 and AAC in a transport stream of constant rate, as airlines deliver them: a key frame each
second, two B-frames, PCRs each 20 ms. A clip that is there is taken as it is.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf"
"""Of fonts-dejavu-core."""

TIMEOUT = 600


@dataclass(frozen=True)
class Clip:
    """What a clip shows and how long it is. `kbits` is the whole stream's rate, in kbit/s."""

    title: str
    seconds: float
    tone: int = 440
    kbits: int = 4000
    size: str = "1024x576"
    rate: int = 25
    b_frames: int = 2


def make(path: Path, clip: Clip) -> Path:
    """The clip at `path`; it is made unless it is there, whole or not at all.

    Raises:
        RuntimeError: ffmpeg cannot make it; the message has what it said.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    video = clip.kbits - 128 - clip.kbits // 8  # the rest is for tables and packets' heads
    text = "fontcolor=white:box=1:boxcolor=black@0.7:boxborderw=8"
    drawn = (
        f"drawtext=fontfile={FONT}:text={clip.title}:fontsize=h/8:x=w/20:y=h/20:{text},"
        f"drawtext=fontfile={FONT}:timecode='00\\:00\\:00\\:00':rate={clip.rate}:fontsize=h/10"
        f":x=w/20:y=h-h/5:{text}"
    )
    done = subprocess.run(
        [
            *("nice", "ffmpeg", "-v", "error", "-y", "-nostdin"),
            *("-f", "lavfi", "-i", f"testsrc2=size={clip.size}:rate={clip.rate}"),
            *("-f", "lavfi", "-i", f"sine=frequency={clip.tone}:sample_rate=48000"),
            *("-t", str(clip.seconds), "-vf", drawn, "-pix_fmt", "yuv420p"),
            *("-c:v", "libx264", "-preset", "veryfast", "-threads", "1"),
            *("-b:v", f"{video}k", "-minrate", f"{video}k", "-maxrate", f"{video}k"),
            *("-bufsize", f"{video // 2}k", "-x264-params", "nal-hrd=cbr:force-cfr=1"),
            *("-g", str(clip.rate), "-bf", str(clip.b_frames)),
            *("-c:a", "aac", "-b:a", "96k", "-ac", "2"),
            *("-f", "mpegts", "-muxrate", f"{clip.kbits}k", "-pcr_period", "20", str(aside)),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{path.name} cannot be made: {done.stderr.strip()}")
    return aside.rename(path)
