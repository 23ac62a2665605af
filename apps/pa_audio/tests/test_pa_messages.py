"""WAV files, the folder of messages, and boarding music."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.common.announcements import PramRequest
from apps.common.testing import wait_until
from apps.pa_audio.arbiter import NOWHERE
from apps.pa_audio.feed import SILENCE
from apps.pa_audio.pram import INDEX, Library, Music, PramError
from apps.pa_audio.tests.cabin import tone, write_wav
from apps.pa_audio.wav import SILENT, WavError, decibels, header, packets_of, read_wav


def index(folder: Path, **different: Any) -> None:
    """A library with a message in two languages and a chime."""
    folder.mkdir(exist_ok=True)
    write_wav(folder / "chime.wav", tone(0.1, 880))
    write_wav(folder / "welcome-en.wav", tone(1.0, 440))
    write_wav(folder / "welcome-es.wav", tone(0.5, 660))
    message = {
        "when_interrupted": "sentence",
        "chime": "single",
        "languages": {
            "en": {"title": "Welcome", "file": "welcome-en.wav", "sentences": [0, 0.4]},
            "es": {"title": "Bienvenidos", "file": "welcome-es.wav"},
        },
    } | different
    text = json.dumps({"chimes": {"single": "chime.wav"}, "messages": {"welcome": message}})
    (folder / INDEX).write_text(text)


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    samples = tone(0.123)
    write_wav(tmp_path / "a.wav", samples)
    read = read_wav(tmp_path / "a.wav")
    assert (read == samples).all()
    packets = packets_of(read)
    assert {len(packet) for packet in packets} == {480}
    joined = np.frombuffer(b"".join(packets), ">i2")
    assert (joined[: len(samples)] == samples).all()
    assert not joined[len(samples) :].any()


def test_loudness_is_in_decibels_of_full_scale() -> None:
    square = np.array([16384, -16384] * 100, np.int16)
    assert decibels(square) == pytest.approx(-6.02, abs=0.01)
    assert decibels(np.zeros(100, np.int16)) == SILENT
    assert decibels(square[:0]) == SILENT


def test_what_cannot_be_played_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    makes: dict[str, Callable[[], object]] = {
        "No such file": lambda: None,
        "no WAV file": lambda: path.write_bytes(b"RIFF rubbish"),
        "44100 Hz": lambda: write_wav(path, tone(0.1), 44_100),
        "loudness is -96": lambda: write_wav(path, np.zeros(4800, np.int16)),
        "loudness is -3": lambda: write_wav(path, tone(0.1, level=0.99)),
        "longer than 300 s": lambda: write_wav(path, tone(300.1)),
    }
    for problem, make in makes.items():
        make()
        with pytest.raises(WavError, match=rf"a\.wav: .*{problem}"):
            read_wav(path)


def test_a_message_of_many_languages_has_a_bound_too(tmp_path: Path) -> None:
    index(tmp_path)
    write_wav(tmp_path / "welcome-en.wav", tone(170.0))
    write_wav(tmp_path / "welcome-es.wav", tone(131.0))
    with pytest.raises(PramError, match="message welcome takes over 300 s"):
        Library(tmp_path).prepare(1, PramRequest(message="welcome"), NOWHERE)
    english = PramRequest(message="welcome", languages=("en",))
    assert len(Library(tmp_path).prepare(1, english, NOWHERE).packets) == 200 * 170 + 20


@given(data=st.binary(max_size=300))
def test_no_bytes_raise_anything_else(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.wav"
    path.write_bytes(data)
    with pytest.raises(WavError):
        read_wav(path)
    path.write_bytes(header(len(data))[:40] + data)
    try:
        read_wav(path)
    except WavError:
        return


def test_a_head_says_how_long_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(header(3) + bytes(6))
    with wave.open(str(path)) as wav:
        assert wav.getnframes() == 3
    assert header(None)[4:8] == header(None)[40:44] == b"\xff\xff\xff\xff"


def test_a_message_is_its_chime_and_its_languages_in_order(tmp_path: Path) -> None:
    index(tmp_path)
    library = Library(tmp_path)
    assert library.trouble is None
    item = library.prepare(7, PramRequest(message="welcome", languages=("es", "en")), NOWHERE)
    assert (item.id, item.languages) == (7, ("es", "en"))
    # 0.1 s of chime, 0.5 s, 1 s: 20, 100 and 200 packets.
    assert len(item.packets) == 320
    assert item.sentences == (0, 20, 120, 200)
    samples = np.frombuffer(b"".join(item.packets), ">i2")
    wanted = np.concatenate([tone(0.1, 880), tone(0.5, 660), tone(1.0, 440)])
    assert (samples == wanted).all()
    whole = library.prepare(8, PramRequest(message="welcome"), NOWHERE)
    assert whole.languages == ("en", "es")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    library = Library(tmp_path / "pram")
    assert "No such file" in (library.trouble or "")
    index(tmp_path / "pram")
    with pytest.raises(PramError, match="there is no message goodbye"):
        library.prepare(1, PramRequest(message="goodbye"), NOWHERE)
    with pytest.raises(PramError, match="welcome is not there in fr"):
        library.prepare(1, PramRequest(message="welcome", languages=("fr",)), NOWHERE)
    (tmp_path / "pram/welcome-en.wav").write_bytes(b"")
    with pytest.raises(PramError, match=r"welcome-en\.wav"):
        library.prepare(1, PramRequest(message="welcome"), NOWHERE)
    index(tmp_path / "pram", chime="double")
    assert "there is no chime double" in (library.trouble or "")
    index(tmp_path / "pram", languages={"en": {"title": "Out", "file": "../../etc/passwd.wav"}})
    assert "file" in (library.trouble or "")
    (tmp_path / "pram" / INDEX).write_bytes(b" " * 300_000)
    assert "256 KiB" in (library.trouble or "")


def test_music_plays_all_files_in_order_over_and_over(tmp_path: Path) -> None:
    write_wav(tmp_path / "1.wav", tone(0.5, 440))
    (tmp_path / "2.wav").write_bytes(b"rubbish")
    write_wav(tmp_path / "3.wav", tone(0.5, 880))
    music = Music(tmp_path)
    assert music.next_packet() == SILENCE
    music.start()
    music.want()
    packets: list[bytes] = []

    def enough() -> bool:
        while (packet := music.next_packet()) != SILENCE:
            packets.append(packet)
        return len(packets) >= 300

    wait_until(enough, "the second round plays")
    music.close()
    one, two = packets_of(tone(0.5, 440)), packets_of(tone(0.5, 880))
    # A tone has samples of zero, but no packets of them.
    assert packets[:300] == [*one, *two, *one]
    assert "2.wav: no WAV file" in (music.trouble or "")


def test_music_that_is_too_loud_or_too_quiet_is_left_out(tmp_path: Path) -> None:
    write_wav(tmp_path / "1.wav", np.full(48_000, 32767, np.int16))
    write_wav(tmp_path / "2.wav", tone(2.5, 440))
    write_wav(tmp_path / "3.wav", np.ones(48_000, np.int16))
    music = Music(tmp_path)
    music.start()
    music.want()
    good = set(packets_of(tone(2.5, 440)))
    heard: list[bytes] = []

    def play(packets: int) -> None:
        heard.clear()

        def enough() -> bool:
            while (packet := music.next_packet()) != SILENCE:
                heard.append(packet)
            return len(heard) >= packets

        wait_until(enough, "it plays")

    play(50)
    assert "1.wav" in (music.trouble or "")
    play(1100)
    assert set(heard) == good
    assert music.trouble is not None
    assert "1.wav: its loudness is -0.0 dB" in music.trouble
    assert "3.wav: its loudness is -90.3 dB" in music.trouble
    # A good one that is replaced by another is measured again.
    for name, samples in (("1.wav", tone(2.5, 880)), ("2.wav", np.full(9_600, 32767, np.int16))):
        write_wav(tmp_path / "new", samples)
        (tmp_path / "new").rename(tmp_path / name)

    def told() -> bool:
        play(100)
        return "2.wav" in (music.trouble or "")

    wait_until(told, "that is told")
    play(1100)
    assert set(heard) == set(packets_of(tone(2.5, 880)))
    music.close()


def test_no_music_is_silence_and_told(tmp_path: Path) -> None:
    music = Music(tmp_path / "none")
    music.start()
    music.want()
    wait_until(lambda: music.trouble, "it is told")
    assert music.next_packet() == SILENCE
    music.close()
