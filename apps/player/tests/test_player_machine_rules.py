"""The machine, rule by rule of docs/protocols/cabin.md."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.common.commands import (
    AnyAction,
    Identify,
    LimitVolume,
    Mute,
    Pause,
    Play,
    Power,
    Reset,
    SetVolume,
    ShowMessage,
)
from apps.common.protocol import (
    Address,
    Beacon,
    Command,
    FrameSigner,
    FrameVerifier,
    Held,
    Status,
    StatusAnswer,
)
from apps.player.machine import (
    MAX_KEPT,
    MAX_REFUSALS_TOLD,
    VAIN_CHECKS_AT_ONCE,
    Answer,
    Do,
    Effect,
    Machine,
    Refused,
    Rejoin,
    Report,
    Restart,
    Save,
    Take,
)
from apps.player.media import Ended, Failed
from apps.player.seat import PlayMedia, SetScreen, SetSound, ShowText, Step, StopMedia

EPOCH = 1000
START = 50.0
CABIN = 7_000_000
"""Cabin time at `START`."""

SIGNER = FrameSigner(bytes(32))
STRANGER = FrameSigner(bytes([1]) * 32)


class Bench:
    """A machine whose effects are carried out at once, and noted."""

    def __init__(self, held: Held | None = None, protocol: int = 2, rand: float = 0.5) -> None:
        self.now = START
        self.rand = rand
        self.steps: list[Step] = []
        self.applied: list[int] = []
        self.other: list[Effect] = []
        self.missing_titles: set[str] = set()
        self.disk_error: str | None = None
        self.machine = Machine(
            seat="12C",
            boot_id="0f" * 16,
            firmware="1",
            held=held or Held(epoch=EPOCH, seq=0),
            verifier=FrameVerifier([SIGNER.public_key], speaks=protocol),
            rand=lambda: self.rand,
            now=self.now,
            protocol=protocol,
        )

    def run(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Do(command=command, plan=plan):
                    media = [step.media for step in plan.steps if isinstance(step, PlayMedia)]
                    if self.missing_titles.intersection(media):
                        self.run(self.machine.cannot("no such title", self.now))
                        continue
                    self.steps += plan.steps
                    self.applied.append(command.seq)
                    self.run(self.machine.done(effect, self.now))
                case Save():
                    self.other.append(effect)
                    self.run(self.machine.saved(self.disk_error, self.now))
                case Take(steps=steps):
                    self.steps += steps
                case _:
                    self.other.append(effect)

    def hear(self, datagram: bytes) -> None:
        self.run(self.machine.datagram(datagram, self.now))

    def command(self, seq: int, action: AnyAction, to: Address = "all") -> None:
        self.hear(frame(seq, action, to))

    def wait(self, seconds: float) -> None:
        """Let time pass; the timers come when they want to."""
        until = self.now + seconds
        while self.machine.next_at <= until:
            self.now = max(self.now, self.machine.next_at)
            self.run(self.machine.tick(self.now))
            if Report() in self.other:
                return
        self.now = until

    def status(self) -> Status:
        """The report that the machine wants to send next."""
        self.wait(10)
        self.other.remove(Report())
        return self.machine.status(None, 40.0, self.now)

    def answer(self, *frames: bytes, upto: int, in_force: bool = False, epoch: int = EPOCH) -> None:
        body = StatusAnswer(
            frames=tuple(frame.decode() for frame in frames), upto=upto, in_force=in_force
        )
        self.run(self.machine.answered(Answer(epoch, self.cabin(), body), self.now))

    def no_content(self) -> None:
        self.run(self.machine.answered(Answer(EPOCH, self.cabin(), None), self.now))

    def cabin(self) -> int:
        return CABIN + int((self.now - START) * 1000)

    def refused(self) -> list[str]:
        return [effect.kind for effect in self.other if isinstance(effect, Refused)]


def frame(
    seq: int,
    action: AnyAction,
    to: Address = "all",
    *,
    epoch: int = EPOCH,
    iat: int = CABIN,
    exp: int | None = None,
    version: int = 1,
) -> bytes:
    return SIGNER.sign(
        Command(v=version, epoch=epoch, seq=seq, iat=iat, exp=exp, to=to, action=action)
    )


def beacon(seq: int, *, iat: int = CABIN, epoch: int = EPOCH) -> bytes:
    return SIGNER.sign(Beacon(epoch=epoch, seq=seq, iat=iat))


# -- receiving --------------------------------------------------------------------------------


def test_a_command_is_applied_once_and_its_repetitions_dropped() -> None:
    bench = Bench()
    for _ in range(3):
        bench.command(1, SetVolume(volume=30))
    assert bench.steps == [SetSound(30)]
    assert bench.machine.held == Held(epoch=EPOCH, seq=1)
    link = bench.status().link
    assert (link.frames, link.duplicates, link.refused) == (1, 2, 0)


@pytest.mark.parametrize(
    ("datagram", "kind"),
    [
        (b"", "unsigned"),
        (b"x" * 1401, "oversize"),
        (frame(1, Mute(muted=True))[:-4] + b"AAAA", "forged"),
        (STRANGER.sign(Beacon(epoch=EPOCH, seq=1, iat=CABIN)), "unsigned"),
        (frame(1, Mute(muted=True), epoch=EPOCH - 1), "other-epoch"),
        (beacon(9, epoch=EPOCH - 1), "other-epoch"),
        (frame(5, Mute(muted=True)), "replayed"),
    ],
)
def test_what_is_refused_is_counted_and_disturbs_nothing(datagram: bytes, kind: str) -> None:
    bench = Bench(Held(epoch=EPOCH, seq=5))
    before = bench.machine.seat
    bench.hear(datagram)
    assert bench.refused() == [kind]
    assert (bench.machine.seat, bench.applied) == (before, [])
    assert bench.machine.held == Held(epoch=EPOCH, seq=5)
    link = bench.status().link
    assert (link.refused, link.frames, link.multicast_age) == (1, 0, None)


@settings(max_examples=1000)
@given(st.binary(max_size=1500))
def test_random_datagrams_are_refused(datagram: bytes) -> None:
    bench = Bench()
    bench.hear(datagram)
    assert len(bench.refused()) == 1


def test_a_flood_of_rubbish_takes_no_memory() -> None:
    bench = Bench()
    for number in range(5000):
        bench.machine.datagram(b"rubbish %d" % number, bench.now)
        bench.machine.datagram(beacon(0, iat=CABIN + number), bench.now)
    assert len(bench.machine._seen) <= 128


def test_a_replayed_beacon_does_not_hide_silence() -> None:
    bench = Bench()
    bench.hear(beacon(0))
    bench.status()
    bench.no_content()
    bench.now += 10
    bench.run(bench.machine.tick(bench.now))
    bench.hear(beacon(0, iat=CABIN + 1))
    assert bench.refused() == ["replayed"]


def test_what_is_for_others_moves_held_and_nothing_else() -> None:
    bench = Bench()
    bench.command(1, Mute(muted=True), ("14A",))
    bench.command(2, Mute(muted=True), ((10, 14, "AB"),))
    assert bench.machine.held.seq == 2
    assert bench.applied == []
    bench.hear(frame(3, Mute(muted=True), ((10, 14, "ABC"),), version=2))
    assert bench.applied == [3]


# -- gaps -------------------------------------------------------------------------------------


def test_commands_after_a_gap_wait_for_it_to_be_filled() -> None:
    bench = Bench()
    bench.command(3, SetVolume(volume=3))
    bench.command(2, SetVolume(volume=2))
    assert bench.applied == []
    bench.command(1, SetVolume(volume=1))
    assert bench.applied == [1, 2, 3]
    assert bench.status().link.gaps == 1


@pytest.mark.parametrize("shown_by", [frame(2, Pause()), beacon(1), frame(1, Pause(), version=9)])
def test_a_gap_is_asked_for_at_once(shown_by: bytes) -> None:
    bench = Bench(rand=1.0)
    bench.status()
    bench.no_content()
    bench.hear(shown_by)
    assert bench.machine.next_at <= bench.now + 0.021
    assert bench.status().held.seq == 0


def test_kept_back_frames_are_bounded() -> None:
    bench = Bench()
    for seq in range(2, 40):
        bench.command(seq, SetVolume(volume=seq))
    assert len(bench.machine._kept) == MAX_KEPT
    bench.command(1, SetVolume(volume=1))
    assert bench.machine.held.seq == MAX_KEPT + 1
    # The rest was not taken for a repetition.
    bench.command(MAX_KEPT + 2, SetVolume(volume=99))
    assert bench.machine.seat.volume == 99


def test_an_answer_fills_the_gap_and_skips_what_is_for_others() -> None:
    bench = Bench()
    bench.command(4, SetVolume(volume=4))
    bench.command(9, SetVolume(volume=9))
    bench.status()
    bench.answer(frame(2, SetVolume(volume=2)), frame(4, SetVolume(volume=4)), upto=7)
    assert bench.applied == [2, 4]
    assert bench.machine.held.seq == 7
    bench.command(8, SetVolume(volume=8))
    assert bench.applied == [2, 4, 8, 9]


def test_an_answer_decides_what_of_the_kept_back_is_still_wanted() -> None:
    bench = Bench()
    bench.command(2, Play(media="film-1"))
    bench.status()
    bench.answer(upto=3)
    assert bench.applied == []
    assert bench.machine.held.seq == 3


def test_an_answer_that_comes_late_takes_nothing_back() -> None:
    bench = Bench()
    bench.status()
    for seq in (1, 2, 3):
        bench.command(seq, SetVolume(volume=seq))
    bench.answer(frame(1, SetVolume(volume=1)), upto=1)
    assert bench.applied == [1, 2, 3]
    assert bench.machine.held.seq == 3


# -- time -------------------------------------------------------------------------------------


def test_an_expired_command_is_told_and_not_applied() -> None:
    bench = Bench()
    bench.hear(beacon(0))
    bench.hear(frame(1, Pause(), iat=CABIN - 5000, exp=CABIN - 1))
    assert bench.applied == []
    status = bench.status()
    assert status.held.seq == 1
    assert [(refusal.seq, refusal.reason) for refusal in status.refused] == [(1, "expired")]


def test_cabin_time_goes_on_after_an_answer() -> None:
    bench = Bench()
    bench.status()
    bench.no_content()
    at_answer = bench.cabin()
    bench.now += 5
    bench.hear(frame(1, Pause(), iat=at_answer, exp=at_answer + 4990))
    assert bench.applied == []
    bench.hear(frame(2, Pause(), iat=at_answer, exp=at_answer + 5010))
    assert bench.applied == [2]


def test_cabin_time_goes_on_after_a_frame() -> None:
    """So that a player without HTTP knows what is expired."""
    bench = Bench()
    bench.hear(beacon(0))
    bench.now += 5
    bench.hear(frame(1, Pause(), iat=CABIN, exp=CABIN + 4990))
    assert bench.applied == []


def test_another_epoch_has_a_time_of_its_own() -> None:
    """A swapped server may think that it is yesterday."""
    bench = Bench()
    bench.hear(beacon(0))
    bench.status()
    bench.run(bench.machine.answered(Answer(EPOCH + 1, 900, None), bench.now))
    bench.hear(frame(1, Pause(), epoch=EPOCH + 1, iat=1000, exp=11_000))
    assert bench.applied == [1]


# -- epochs and what is in force ----------------------------------------------------------------


@pytest.mark.parametrize("epoch", [EPOCH - 1, EPOCH + 1])
def test_no_epoch_is_adopted_from_multicast(epoch: int) -> None:
    """What was signed for an epoch that is over could be sent again by anybody."""
    bench = Bench(Held(epoch=EPOCH, seq=5))
    bench.hear(frame(6, SetVolume(volume=6), epoch=epoch))
    bench.hear(beacon(9, epoch=epoch))
    assert bench.refused() == ["other-epoch"] * 2
    status = bench.status()
    assert (status.held, status.volume) == (Held(epoch=EPOCH, seq=5), 50)
    bench.answer(upto=7, in_force=True, epoch=epoch)
    bench.hear(frame(8, SetVolume(volume=8), epoch=epoch))
    assert (bench.machine.held, bench.applied) == (Held(epoch=epoch, seq=8), [8])


def test_a_new_player_takes_nothing_before_it_was_told_the_epoch() -> None:
    bench = Bench(Held(epoch=0, seq=0))
    bench.hear(frame(1, SetVolume(volume=1)))
    assert (bench.applied, bench.refused()) == ([], [])
    bench.status()
    bench.answer(frame(1, SetVolume(volume=1)), upto=1, in_force=True)
    assert bench.applied == [1]


def test_a_form_for_one_seat_is_refused_from_the_group() -> None:
    """It would move every other seat past a command that is for them too."""
    mute = Command(
        v=1, epoch=EPOCH, seq=1, iat=CABIN, to=("14D",), one=True, action=Mute(muted=True)
    )
    bench = Bench()
    bench.hear(SIGNER.sign(mute))
    assert (bench.refused(), bench.machine.held.seq) == (["misdirected"], 0)
    own = SIGNER.sign(mute.model_copy(update={"to": ("12C",)}))
    bench.status()
    bench.answer(own, upto=1)
    assert bench.applied == [1]


def test_the_first_of_two_frames_with_one_number_counts() -> None:
    bench = Bench()
    bench.command(2, SetVolume(volume=2))
    bench.command(2, SetVolume(volume=3), to=("14D",))
    bench.command(1, Mute(muted=True))
    assert (bench.applied, bench.machine.seat.volume) == ([1, 2], 2)


@pytest.mark.parametrize("epoch", [EPOCH - 1, EPOCH + 1])
def test_the_epoch_of_an_answer_is_adopted_even_if_lower(epoch: int) -> None:
    bench = Bench(Held(epoch=EPOCH, seq=5))
    bench.status()
    command = frame(2, SetVolume(volume=2), epoch=epoch)
    bench.answer(command, upto=3, in_force=True, epoch=epoch)
    assert bench.machine.held == Held(epoch=epoch, seq=3)
    assert not bench.machine.fresh
    assert bench.machine.seat.volume == 2


def test_a_fresh_seat_takes_what_is_in_force_at_or_below_held() -> None:
    bench = Bench(Held(epoch=EPOCH, seq=5))
    assert bench.status().fresh
    bench.answer(
        frame(3, SetVolume(volume=3)), frame(5, Pause()), frame(6, Pause()), upto=6, in_force=True
    )
    assert bench.applied == [3, 6]
    assert not bench.status().fresh


def test_what_is_at_or_below_held_is_dropped_otherwise() -> None:
    bench = Bench(Held(epoch=EPOCH, seq=5))
    bench.status()
    bench.answer(frame(3, SetVolume(volume=3)), frame(6, Pause()), upto=6)
    assert bench.applied == [6]
    assert bench.machine.fresh


def test_what_was_in_force_does_not_undo_what_came_meanwhile() -> None:
    bench = Bench(Held(epoch=EPOCH, seq=5))
    bench.status()
    bench.command(6, SetVolume(volume=6))
    bench.answer(frame(3, SetVolume(volume=3)), frame(4, Mute(muted=True)), upto=5, in_force=True)
    assert bench.machine.seat.volume == 6
    assert bench.machine.seat.muted
    assert bench.machine.held.seq == 6


def test_an_answer_with_one_bad_frame_is_refused_as_a_whole() -> None:
    bench = Bench()
    bench.status()
    bench.answer(frame(1, Pause()), frame(2, Pause())[:-4] + b"AAAA", upto=2)
    assert bench.refused() == ["forged"]
    assert bench.applied == []
    bench.answer(beacon(2), upto=2)
    bench.answer(frame(1, Pause(), epoch=EPOCH + 1), upto=2)
    assert bench.refused() == ["forged", "malformed", "malformed"]
    status = bench.status()
    assert (status.held.seq, status.link.http_failures) == (0, 3)


# -- refusals -----------------------------------------------------------------------------------


def test_a_refusal_is_told_until_a_status_that_had_it_was_answered() -> None:
    bench = Bench()
    bench.missing_titles = {"film-99"}
    bench.command(1, Play(media="film-99"))
    assert [refusal.reason for refusal in bench.status().refused] == ["no such title"]
    bench.run(bench.machine.failed(bench.now))
    assert len(bench.status().refused) == 1
    bench.run(bench.machine.turned_away(bench.now))
    assert len(bench.status().refused) == 1
    bench.command(2, Play(media="film-99"))
    bench.no_content()
    assert [refusal.seq for refusal in bench.status().refused] == [2]


def test_more_refusals_than_a_status_holds_are_told_one_after_the_other() -> None:
    """The server takes what is held and not refused for applied."""
    bench = Bench()
    bench.missing_titles = {"film-99"}
    count = MAX_REFUSALS_TOLD + 3
    for seq in range(1, count + 1):
        bench.command(seq, Play(media="film-99"))
    status = bench.status()
    assert (len(status.refused), status.held.seq) == (MAX_REFUSALS_TOLD, MAX_REFUSALS_TOLD)
    bench.answer(upto=count)
    status = bench.status()
    assert (len(status.refused), status.held.seq) == (3, count)
    assert bench.machine.held.seq == count


def test_a_seat_that_is_off_plays_nothing() -> None:
    bench = Bench()
    bench.command(1, Play(media="film-1"))
    bench.command(2, Power(on=False))
    assert bench.steps[-3:] == [SetScreen(False, 80), StopMedia(), ShowText(None)]
    bench.command(3, Play(media="film-1"))
    status = bench.status()
    assert (status.state, status.media) == ("off", None)
    assert [refusal.reason for refusal in status.refused] == ["the seat is switched off"]
    bench.no_content()
    bench.command(4, Power(on=True))
    assert bench.status().state == "idle"


# -- the disk, and a reset -----------------------------------------------------------------------


def test_power_is_saved_before_it_is_done() -> None:
    bench = Bench()
    effects = bench.machine.datagram(frame(1, Power(on=False)), bench.now)
    assert effects == [Save(Held(epoch=EPOCH, seq=1))]
    assert bench.machine.held.seq == 0
    # What comes meanwhile waits, and is no gap.
    assert bench.machine.datagram(frame(2, SetVolume(volume=2)), bench.now) == []
    assert bench.machine.status(None, 40.0, bench.now).link.gaps == 0
    bench.run(bench.machine.saved(None, bench.now))
    assert bench.applied == [1, 2]


def test_what_cannot_be_saved_is_not_done() -> None:
    bench = Bench()
    bench.disk_error = "No space left on device"
    bench.command(1, Reset())
    bench.command(2, SetVolume(volume=2))
    assert bench.applied == [2]
    status = bench.status()
    assert "No space left" in status.refused[0].reason
    assert status.faults == ("storage",)
    bench.disk_error = None
    bench.wait(10)
    assert bench.machine.faults == set()


def test_a_reset_that_failed_is_over() -> None:
    bench = Bench()
    bench.command(1, Reset())
    bench.run(bench.machine.tick(bench.now + 1))
    bench.run(bench.machine.cannot_restart(bench.now + 1))
    bench.hear(frame(2, Pause(), exp=CABIN - 1))
    assert bench.machine.held.seq == 2
    bench.command(3, SetVolume(volume=3))
    status = bench.status()
    assert (status.held.seq, status.volume, status.faults) == (3, 3, ("restart",))


def test_vain_checks_are_bounded_and_what_was_lost_by_that_is_asked_for() -> None:
    """Each costs a signature check, and whoever is in the cabin can send thousands a second."""
    bench = Bench()
    bench.status()
    bench.no_content()
    good = frame(1, SetVolume(volume=1))
    for number in range(VAIN_CHECKS_AT_ONCE + 50):
        bench.hear(good[:-6] + b"%04dAA" % number)
    assert bench.refused() == ["forged"] * VAIN_CHECKS_AT_ONCE + ["flood"] * 50
    bench.hear(good)
    assert bench.applied == []
    for _ in range(100):
        bench.hear(b"rubbish that costs nothing")
    bench.now += 1
    bench.hear(good)
    assert bench.applied == [1]


@pytest.mark.parametrize("degrees", [-1000.0, 1000.0])
def test_a_broken_sensor_does_not_end_the_reports(degrees: float) -> None:
    assert abs(Bench().machine.status(None, degrees, START).temperature) <= 150


def test_other_commands_are_saved_soon_after_with_one_write() -> None:
    bench = Bench()
    for seq in (1, 2, 3):
        bench.command(seq, SetVolume(volume=seq))
    bench.status()
    bench.wait(1)
    assert [effect for effect in bench.other if isinstance(effect, Save)] == [
        Save(Held(epoch=EPOCH, seq=3))
    ]


def test_a_reset_is_saved_then_told_then_done() -> None:
    bench = Bench()
    bench.command(1, Reset())
    assert bench.other == [Save(Held(epoch=EPOCH, seq=1))]
    status = bench.status()
    assert (status.held.seq, status.state) == (1, "booting")
    assert bench.now <= START + 0.1
    bench.no_content()
    assert isinstance(bench.other[-1], Restart)
    bench.command(2, SetVolume(volume=2))
    assert bench.applied == []


def test_a_reset_waits_a_second_for_the_server_at_most() -> None:
    bench = Bench()
    bench.command(1, Reset())
    bench.status()
    bench.wait(0.9)
    assert not isinstance(bench.other[-1], Restart)
    bench.wait(0.2)
    assert isinstance(bench.other[-1], Restart)
    bench.wait(5)
    assert len([effect for effect in bench.other if isinstance(effect, Restart)]) == 1


def test_a_player_that_cannot_restart_says_so_and_goes_on() -> None:
    bench = Bench()
    bench.command(1, Reset())
    bench.status()
    bench.no_content()
    bench.command(2, SetVolume(volume=2))
    bench.run(bench.machine.cannot_restart(bench.now))
    assert bench.applied == [2]
    assert bench.status().faults == ("restart",)


# -- reports -------------------------------------------------------------------------------------


def reports_in(bench: Bench, seconds: float, outcome: str) -> list[float]:
    times = []
    until = bench.now + seconds
    while bench.machine.next_at <= until:
        bench.now = max(bench.now, bench.machine.next_at)
        for effect in bench.machine.tick(bench.now):
            if effect == Report():
                times.append(bench.now)
                bench.machine.status(None, 40.0, bench.now)
                if outcome == "answered":
                    bench.no_content()
                else:
                    getattr(bench.machine, outcome)(bench.now)
    bench.now = until
    return times


@pytest.mark.parametrize("outcome", ["answered", "turned_away"])
@pytest.mark.parametrize("rand", [0.0, 0.25, 1.0])
def test_a_seat_reports_each_second_from_a_random_start(rand: float, outcome: str) -> None:
    bench = Bench(rand=rand)
    times = reports_in(bench, 9.999, outcome)
    assert times == pytest.approx([START + rand + number for number in range(len(times))])
    assert len(times) in {9, 10}


def test_a_late_timer_does_not_make_reports_pile_up() -> None:
    bench = Bench()
    bench.now += 30
    assert len(reports_in(bench, 2.4, "answered")) == 3


@pytest.mark.parametrize("rand", [0.0, 1.0])
def test_a_command_is_confirmed_within_100_ms(rand: float) -> None:
    bench = Bench(rand=rand)
    bench.now = START + 0.001
    bench.command(1, Pause())
    bench.command(2, Pause())
    bench.status()
    assert bench.now == pytest.approx(START + 0.001 + rand * 0.1)


def test_reports_wait_for_the_one_that_is_under_way() -> None:
    bench = Bench()
    bench.status()
    bench.command(1, Pause())
    bench.wait(5)
    assert Report() not in bench.other
    bench.no_content()
    assert bench.machine.next_at <= bench.now


def test_reports_back_off_after_three_failures_up_to_5_s() -> None:
    bench = Bench(rand=1.0)
    times = reports_in(bench, 40, "failed")
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps[:2] == pytest.approx([1, 1])
    assert gaps[2:6] == pytest.approx([2, 4, 5, 5])
    bench.no_content()
    assert reports_in(bench, 5, "answered")[-1] > bench.now - 1.01


def test_the_server_s_multicast_ends_a_back_off() -> None:
    bench = Bench(rand=1.0)
    reports_in(bench, 20, "failed")
    bench.rand = 0.3
    bench.hear(beacon(0))
    assert bench.machine.next_at <= bench.now + 0.31


def rejoins(bench: Bench, count: int) -> list[float]:
    """When the player joins again from now on, in seconds."""
    times: list[float] = []
    began = bench.now
    while len(times) < count:
        bench.now = bench.machine.next_at
        effects = bench.machine.tick(bench.now)
        if Rejoin() in effects:
            times.append(bench.now - began)
        if Report() in effects:
            bench.machine.failed(bench.now)
    return times


def test_silence_makes_the_player_join_again_less_and_less_often() -> None:
    bench = Bench(rand=1.0)
    bench.hear(beacon(0))
    assert rejoins(bench, 6) == pytest.approx([3, 9, 21, 45, 75, 105])
    bench.hear(beacon(0, iat=bench.cabin()))
    assert rejoins(bench, 2) == pytest.approx([3, 9])


def test_a_player_of_protocol_1_sees_a_gap_and_asks() -> None:
    bench = Bench(protocol=1)
    bench.hear(frame(1, Pause(), ((10, 14, "ABC"),), version=2))
    assert bench.applied == []
    assert bench.status().protocol == 1
    bench.answer(frame(1, Pause(), ("12C",)), upto=1)
    assert bench.applied == [1]


# -- what the seat shows -------------------------------------------------------------------------


def test_a_message_goes_away_at_its_end() -> None:
    bench = Bench()
    bench.command(1, ShowMessage(text="Cabin crew", seconds=3))
    bench.status()
    bench.wait(2.9)
    assert bench.steps == [ShowText("Cabin crew")]
    bench.wait(0.2)
    assert bench.steps == [ShowText("Cabin crew"), ShowText(None)]


def test_identify_shows_the_seat_s_name() -> None:
    bench = Bench()
    bench.command(1, Identify(seconds=1))
    assert bench.steps == [ShowText("12C")]


def test_the_limit_holds_whatever_comes_first() -> None:
    one, other = Bench(), Bench()
    one.command(1, LimitVolume(limit=40))
    one.command(2, SetVolume(volume=80))
    other.command(1, SetVolume(volume=80))
    other.command(2, LimitVolume(limit=40))
    assert one.steps[-1] == other.steps[-1] == SetSound(40)
    assert one.status().volume == other.status().volume == 40


def test_mute_silences_and_leaves_the_volume() -> None:
    bench = Bench()
    bench.command(1, Mute(muted=True))
    bench.command(2, SetVolume(volume=70))
    assert bench.steps == [SetSound(0), SetSound(0)]
    status = bench.status()
    assert (status.muted, status.volume) == (True, 70)
    bench.no_content()
    bench.command(3, Mute(muted=False))
    assert bench.steps[-1] == SetSound(70)


def test_media_events_show_in_the_state() -> None:
    bench = Bench()
    bench.command(1, Play(media="film-1"))
    bench.run(bench.machine.media_event(Failed("decoder"), bench.now))
    assert bench.status().state == "fault"
    bench.no_content()
    bench.command(2, Play(media="film-1"))
    bench.command(3, Pause())
    assert bench.status().state == "paused"
    bench.no_content()
    bench.run(bench.machine.media_event(Ended(), bench.now))
    status = bench.status()
    assert (status.state, status.media) == ("idle", None)


def test_a_boot_brings_sound_and_screen_to_a_known_state() -> None:
    bench = Bench()
    bench.run(bench.machine.boot())
    assert bench.steps == [SetSound(50), SetScreen(True, 80)]


def test_the_timer_is_always_set() -> None:
    assert Bench().machine.next_at < math.inf
