"""What a seat is told, what its confirmations mean, and that both agree with a simple oracle."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from apps.common.commands import (
    AnyAction,
    ArmRequest,
    CommandRequest,
    Identify,
    LimitVolume,
    LockScreen,
    Mute,
    Pause,
    Power,
    Reset,
    Selector,
    SetBrightness,
    SetVolume,
    ShowMessage,
)
from apps.common.protocol import MAX_FRAMES_PER_ANSWER, Status
from apps.seat_control.commands import (
    ARM_SECONDS,
    BURST,
    GRACE_MS,
    KEPT,
    MAX_ARMED_BY_ONE,
    PER_SECOND,
    VERDICTS_AFTER_MS,
    Arming,
    CommandLog,
    CommandRate,
    Issued,
)
from apps.seat_control.tests.test_seat_table import status as a_status

EPOCH = 7
SEATS = [f"{row}{letter}" for row in range(1, 31) for letter in "ABCDEF"]


def issue(
    log: CommandLog,
    action: AnyAction,
    targets: list[str],
    now: int = 0,
    expires_in: float | None = None,
) -> Issued:
    if expires_in is None and action.retained is None:
        expires_in = 10
    exp = None if expires_in is None else now + int(expires_in * 1000)
    seq = log.last + 1
    issued = Issued(
        seq=seq,
        crew="anna",
        selector=Selector(seats=tuple(targets)),
        action=action,
        targets=tuple(targets),
        issued_at=datetime(2026, 1, 1, tzinfo=UTC),
        iat=now,
        exp=exp,
        expires_in=expires_in,
        frame=log.frame(seq, action, targets, now, exp),
        open=set(targets),
    )
    log.add(issued)
    return issued


def status(seq: int, epoch: int = EPOCH, **fields: Any) -> Status:
    return a_status(held={"epoch": epoch, "seq": seq}, **fields)


def told(log: CommandLog, seat: str, seat_status: Status, now: int = 0) -> list[int] | None:
    missed = log.missed(seat, seat_status, now)
    return None if missed is None else [command.seq for command in missed.commands]


def test_a_seat_that_holds_everything_misses_nothing() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    assert log.missed("1A", status(0), 0) is None
    issue(log, SetVolume(volume=10), ["1A"])
    assert told(log, "1A", status(0)) == [1]
    assert told(log, "1A", status(1)) is None


def test_a_command_for_others_only_moves_the_seat_on() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    issue(log, SetVolume(volume=10), ["1B"])
    missed = log.missed("1A", status(0), 0)
    assert missed is not None
    assert (missed.commands, missed.upto, missed.in_force) == ([], 1, False)


def test_only_the_newest_of_a_setting_is_sent_and_the_older_is_superseded() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    old = issue(log, SetVolume(volume=10), ["1A", "1B"])
    issue(log, LockScreen(locked=True), ["1A"])
    issue(log, SetVolume(volume=20), ["1A"])
    assert told(log, "1A", status(0), now=GRACE_MS + 1) == [2, 3]
    assert old.superseded == ["1A"]
    assert old.open == {"1B"}


def test_a_setting_that_was_replaced_is_final_though_its_seat_is_lost() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    old = issue(log, SetVolume(volume=10), ["1A", "1B"])
    log.tick(0)
    replaced = 10_000
    issue(log, SetVolume(volume=20), ["1A"], now=replaced)
    log.tick(replaced + VERDICTS_AFTER_MS)
    assert old.superseded == []  # until then a seat that is not lost has told what it did
    log.tick(replaced + VERDICTS_AFTER_MS + 1)
    assert (old.superseded, old.open) == (["1A"], {"1B"})
    again = 20_000
    issue(log, SetVolume(volume=30), ["1B"], now=again)
    log.tick(again + VERDICTS_AFTER_MS + 1)
    assert old.report(EPOCH, again + VERDICTS_AFTER_MS + 1).final
    assert old.superseded == ["1A", "1B"]


def test_a_momentary_command_is_not_sent_after_its_expiry_and_the_report_says_so() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    pause = issue(log, Pause(), ["1A", "1B"], now=0, expires_in=10)
    assert told(log, "1A", status(0), now=10_000) == [1]
    too_late = 10_000 + GRACE_MS + 1
    assert told(log, "1A", status(0), now=too_late) == []
    assert pause.expired == ["1A"]
    assert not pause.report(EPOCH, too_late - 1).final
    log.tick(0)
    log.tick(too_late)
    report = pause.report(EPOCH, 20_000)
    assert report.final
    assert report.expired == ["1A", "1B"]


def test_a_seat_says_itself_what_it_did_at_the_last_moment() -> None:
    """Its report was on the way while it got the command by multicast, in time."""
    log = CommandLog(SEATS, EPOCH, 0)
    pause = issue(log, Pause(), ["1A", "1B"], now=0, expires_in=10)
    old = issue(log, SetVolume(volume=10), ["1A", "1B"], now=9_900)
    issue(log, SetVolume(volume=20), ["1A", "1B"], now=9_950)
    for seat in ("1A", "1B"):
        assert told(log, seat, status(0), now=10_010) == [1, 2, 3]
    log.confirm("1A", status(3), 10_050)
    late = [{"seq": 1, "reason": "expired"}, {"seq": 2, "reason": "no audio device"}]
    log.confirm("1B", status(3, refused=late), 10_060)
    assert (pause.applied(), pause.expired) == (1, ["1B"])
    assert (old.applied(), old.superseded, list(old.refused)) == (1, [], ["1B"])


def test_a_verdict_is_numbered_so_that_its_seat_waits_for_the_journal() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    issue(log, SetVolume(volume=10), SEATS)
    log.confirm("1A", status(1), 10)
    assert (log.verdicts, log.last_verdict("1A")) == (0, 0)
    log.confirm("1B", status(1, refused=[{"seq": 1, "reason": "no audio device"}]), 10)
    issue(log, SetVolume(volume=20), SEATS)
    log.missed("1C", status(0), GRACE_MS + 1)
    assert log.verdicts == 2
    assert [log.last_verdict(seat) for seat in ("1A", "1B", "1C")] == [0, 1, 2]


def test_a_fresh_seat_gets_what_is_in_force_in_order() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    issue(log, SetVolume(volume=10), ["1A"])
    issue(log, Power(on=True), SEATS)
    issue(log, Pause(), ["1A"], now=0)
    issue(log, SetVolume(volume=20), ["1A"])
    missed = log.missed("1A", status(4, fresh=True), 0)
    assert missed is not None
    assert [command.seq for command in missed.commands] == [2, 4]
    assert missed.in_force
    # One that holds less is also told what is still worth doing.
    assert told(log, "1A", status(2, fresh=True)) == [2, 3, 4]


def test_a_seat_of_another_epoch_begins_anew() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    issued = issue(log, SetVolume(volume=10), ["1A"])
    missed = log.missed("1A", status(500, epoch=3), 0)
    assert missed is not None
    assert [command.seq for command in missed.commands] == [1]
    assert missed.in_force
    log.confirm("1A", status(500, epoch=3), 0)
    assert issued.open == {"1A"}


def test_a_seat_that_holds_what_was_never_given_out_confirms_nothing() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    issued = issue(log, SetVolume(volume=10), ["1A"])
    log.confirm("1A", status(2**53 - 1), 10)
    assert issued.open == {"1A"}
    assert told(log, "1A", status(2**53 - 1)) == [1]


def test_confirmations_are_timed_and_refusals_keep_their_reason() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    targets = ["1A", "1B", "1C", "1D"]
    issued = issue(log, SetVolume(volume=10), targets, now=1000)
    for seat, now in zip(["1A", "1B", "1C"], [1010, 1020, 1030], strict=True):
        log.confirm(seat, status(1), now)
        log.confirm(seat, status(1), now + 500)  # said again, counted once
    report = issued.report(EPOCH, 1040)
    assert (report.applied, report.missing) == (3, ["1D"])
    assert (report.ms_to_50_percent, report.ms_to_99_percent, report.ms_to_last) == (20, None, 30)
    log.confirm("1D", status(1, refused=[{"seq": 1, "reason": "no audio device"}]), 1090)
    report = issued.report(EPOCH, 1100)
    assert [(refusal.seat, refusal.reason) for refusal in report.refused] == [
        ("1D", "no audio device")
    ]
    assert report.final
    assert report.applied == 3
    assert report.ms_to_last == 30


def test_a_seat_that_says_it_was_too_late_counts_as_expired() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    issued = issue(log, Pause(), ["1A"])
    log.confirm("1A", status(1, refused=[{"seq": 1, "reason": "expired"}]), 10_100)
    assert issued.report(EPOCH, 10_100).expired == ["1A"]


def test_an_old_player_gets_a_form_that_it_understands() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    many = [seat for seat in SEATS if seat != "2B"]
    issued = issue(log, SetVolume(volume=10), many)
    assert issued.frame.v == 2
    missed = log.missed("1A", status(0, protocol=1), 0)
    assert missed is not None
    (command,) = missed.commands
    assert (command.v, command.to, command.seq) == (1, ("1A",), 1)
    missed = log.missed("1A", status(0, protocol=2), 0)
    assert missed is not None
    assert missed.commands == [issued.frame]


def test_an_action_that_an_old_player_does_not_have_is_refused_for_it() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    issued = issue(log, Identify(), ["1A", "1B"])
    missed = log.missed("1A", status(0, protocol=1), 0)
    assert missed is not None
    assert (missed.commands, missed.upto) == ([], 1)
    assert issued.refused == {"1A": "needs protocol 2"}


def test_a_long_backlog_comes_in_parts() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    for _ in range(40):
        issue(log, ShowMessage(text="hello"), ["1A"])
    held, received = 0, []
    for _ in range(3):
        missed = log.missed("1A", status(held), 0)
        assert missed is not None
        assert len(missed.commands) <= MAX_FRAMES_PER_ANSWER
        received += [command.seq for command in missed.commands]
        held = missed.upto
    assert received == list(range(1, 41))
    assert held == 40


def test_a_fresh_seat_gets_all_that_is_in_force_even_behind_a_backlog() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    issue(log, LockScreen(locked=True), ["1A"])
    for _ in range(40):
        issue(log, ShowMessage(text="hello"), ["1A"])
    issue(log, SetVolume(volume=10), ["1A"])
    missed = log.missed("1A", status(0, fresh=True), 0)
    assert missed is not None
    seqs = [command.seq for command in missed.commands]
    assert len(seqs) == MAX_FRAMES_PER_ANSWER
    assert seqs[0] == 1
    assert seqs[-1] == 42
    assert missed.upto == 42


def test_old_commands_are_forgotten_but_not_those_in_force() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    issue(log, LockScreen(locked=True), ["1A"])
    for _ in range(KEPT + 100):
        issue(log, SetVolume(volume=10), ["1B"])
    log.changed()
    log.tick(0)
    assert log.remembered() == {1, *range(102, KEPT + 102)}
    assert told(log, "1A", status(0, fresh=True)) == [1]


def test_new_commands_are_remembered_whatever_is_in_force() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    settings: list[AnyAction] = [SetVolume(volume=1), LockScreen(locked=True), Power(on=True)]
    settings += [Mute(muted=True), SetBrightness(brightness=1), LimitVolume(limit=1)]
    for seat in SEATS:
        for action in settings:
            issue(log, action, [seat])
    assert log.last > KEPT
    pause = issue(log, Pause(), ["1A"])
    log.changed()
    log.tick(0)
    assert log.get(pause.seq) is pause


def test_after_a_start_seats_get_time_to_say_what_they_did() -> None:
    log = CommandLog(SEATS, EPOCH, 0)
    issued = issue(log, Pause(), ["1A"], now=0)
    log.tick(20_000)  # the first look at the clock, long after the expiry
    log.confirm("1A", status(1), 20_100)
    log.tick(30_000)
    assert (issued.applied(), issued.expired) == (1, [])


actions = st.sampled_from(
    [SetVolume(volume=1), SetVolume(volume=2), LockScreen(locked=True), Pause(), Power(on=True)]
)
steps = st.lists(
    st.tuples(actions, st.sets(st.sampled_from(SEATS[:4]), min_size=1)), min_size=1, max_size=30
)


@given(steps, st.integers(0, 30), st.booleans())
def test_a_seat_is_told_what_a_simple_oracle_says(
    issued: list[tuple[AnyAction, set[str]]], held: int, fresh: bool
) -> None:
    log = CommandLog(SEATS[:4], EPOCH, 0)
    for action, targets in issued:
        issue(log, action, sorted(targets))
    later = GRACE_MS + 1
    held = min(held, len(issued))
    mine = [(n, a) for n, (a, targets) in enumerate(issued, 1) if SEATS[0] in targets]
    newest = {a.retained: n for n, a in mine if a.retained}
    expected = [
        n
        for n, a in mine
        if (newest[a.retained] == n and (n > held or fresh) if a.retained else n > held)
    ]
    missed = log.missed(SEATS[0], status(held, fresh=fresh), later)
    if missed is None:
        assert held == len(issued)
        assert not fresh
    elif len(expected) <= MAX_FRAMES_PER_ANSWER:
        assert [command.seq for command in missed.commands] == expected
        assert missed.upto == len(issued)


def test_an_arm_token_is_for_one_action_on_these_seats_by_this_person_once() -> None:
    now = 0.0
    arming = Arming(lambda: now)
    armed = ArmRequest(selector=Selector(all=True), action=Reset())
    seats = tuple(SEATS)

    def redeem(crew: str, action: AnyAction, targets: tuple[str, ...], token: str) -> bool:
        request = CommandRequest(selector=armed.selector, action=action, arm_token=token)
        return arming.redeem(request, crew, targets)

    token = arming.arm("anna", armed.action, seats)
    assert redeem("anna", Reset(), seats, token)
    assert not redeem("anna", Reset(), seats, token)
    assert not redeem("anna", Reset(), seats, "made up")
    assert not redeem("bruno", Reset(), seats, arming.arm("anna", Reset(), seats))
    assert not redeem("anna", Power(on=False), seats, arming.arm("anna", Reset(), seats))
    assert not redeem("anna", Reset(), seats[1:], arming.arm("anna", Reset(), seats))
    token = arming.arm("anna", Reset(), seats)
    now = ARM_SECONDS + 0.1
    assert not redeem("anna", Reset(), seats, token)


def test_one_crew_member_pushes_out_only_their_own_arm_tokens() -> None:
    arming = Arming(lambda: 0.0)
    seats = tuple(SEATS)

    def redeem(crew: str, token: str) -> bool:
        request = CommandRequest(selector=Selector(all=True), action=Reset(), arm_token=token)
        return arming.redeem(request, crew, seats)

    anna = arming.arm("anna", Reset(), seats)
    tokens = [arming.arm("bruno", Reset(), seats) for _ in range(MAX_ARMED_BY_ONE + 1)]
    assert not redeem("bruno", tokens[0])
    assert all(redeem("bruno", token) for token in tokens[1:])
    assert redeem("anna", anna)


def test_a_crew_member_is_slowed_down_alone_and_not_for_long() -> None:
    now = 0.0
    rate = CommandRate(lambda: now)
    assert [rate.wait("anna") for _ in range(BURST)] == [0.0] * BURST
    assert 0 < rate.wait("anna") <= 1 / PER_SECOND
    assert rate.wait("bruno") == 0.0
    for _ in range(100):
        now += 1.01 / PER_SECOND
        assert rate.wait("anna") == 0.0
