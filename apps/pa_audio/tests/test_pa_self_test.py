"""The PA hears itself: real multicast on the loopback interface."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from apps.common.multicast import sending_socket
from apps.common.pa import PORT, SAMPLES, Audio, Signer, Source, Verifier, group
from apps.common.testing import wait_until
from apps.pa_audio import self_test
from apps.pa_audio.self_test import CHECKED, SelfTest
from apps.pa_audio.tests.cabin import SEED, tone

SERVER = IPv4Address("127.0.41.1")
GROUPS = (0, 1)
SIGNER = Signer(SEED)

Send = Callable[[int, bytes], int]


@pytest.fixture
def send() -> Iterator[Send]:
    """Sends a datagram to an area's group."""
    with ExitStack() as stack:
        sockets = {
            area: stack.enter_context(sending_socket("lo", SERVER, group(area), PORT, 0))
            for area in GROUPS
        }
        yield lambda area, datagram: sockets[area].send(datagram)


@pytest.fixture
def hears() -> Iterator[SelfTest]:
    itself = SelfTest("lo", SERVER, GROUPS, SIGNER.public_key, lambda: 5)
    itself.start()
    wait_until(lambda: all(it.joined > 0 for it in itself._groups.values()), "it listens")
    yield itself
    itself.close()


def packet(area: int, sequence: int) -> bytes:
    samples = tone(0.005).astype(">i2").tobytes()
    audio = Audio(area, Source.CREW, 7, 0, 1, sequence, sequence * SAMPLES, samples)
    return SIGNER.sign(audio)


def test_few_signatures_are_checked_and_all_packets_counted(
    send: Send, hears: SelfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = 0
    is_signed = Verifier.is_signed

    def counted(*of: object) -> bool:
        nonlocal checked
        checked += 1
        return is_signed(*of)  # type: ignore[arg-type]

    monkeypatch.setattr(Verifier, "is_signed", counted)
    began = time.monotonic()
    for number in range(300):
        for area in GROUPS:
            if number % 100 != 99:
                send(area, packet(area, number))
        time.sleep(0.002)
    wait_until(lambda: hears.view().packets == 2 * 297, "it hears all", 2)
    view = hears.view()
    assert (view.passed, view.lost, view.delay_ms) == (True, 2 * 2, 5)
    assert checked <= CHECKED * len(GROUPS) * (time.monotonic() - began + 2)


def as_another(datagram: bytes) -> bytes:
    """What another key signed, which says that it is ours."""
    changed = Signer(bytes(32)).sign(Audio(0, Source.CREW, 7, 0, 1, 5, 0, bytes(2 * SAMPLES)))
    return changed[:18] + datagram[18:22] + changed[22:]


def broken(datagram: bytes) -> bytes:
    return datagram[:-1] + bytes([datagram[-1] ^ 1])


@pytest.mark.parametrize("changed", [as_another, broken])
def test_a_stream_that_is_no_longer_signed_is_told(
    send: Send,
    hears: SelfTest,
    monkeypatch: pytest.MonkeyPatch,
    changed: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr(self_test, "SILENT_AFTER", 1.5)
    began = time.monotonic()
    number = 0

    def goes_on(change: Callable[[bytes], bytes]) -> SelfTest:
        nonlocal number
        number += 1
        send(0, change(packet(0, number)))
        send(1, packet(1, number))
        return hears

    while time.monotonic() < began + 3:
        goes_on(lambda datagram: datagram)
        assert hears.trouble() is None
    wait_until(lambda: goes_on(changed).trouble(), "it is told", 4)
    assert hears.trouble() == "it does not hear itself in 239.192.74.0"
