"""What is done for a channel, second by second. The clock is the test's own."""

from __future__ import annotations

from apps.vlc_stream.keeper import PATIENCE, SILENT_AFTER, SPARED, Company, Deed, Keeper


class Channel:
    """A keeper, asked each tenth of a second, alone in its process or in company."""

    def __init__(self, company: Company | None = None) -> None:
        self.keeper = Keeper(company or Company())
        self.now = 0.0
        self.heard: float | None = None

    def pass_time(
        self,
        seconds: float,
        sending: bool,
        wanted: bool = True,
        able: bool = True,
        quiet: bool = False,
    ) -> list[tuple[float, Deed]]:
        deeds = []
        for _ in range(round(seconds * 10)):
            self.now = round(self.now + 0.1, 1)
            if sending:
                self.heard = self.now
            if deed := self.keeper.decide(self.now, wanted, self.heard, able, quiet):
                deeds.append((self.now, deed))
        return deeds


def test_a_channel_that_is_heard_is_left_alone() -> None:
    channel = Channel()
    assert channel.pass_time(60, sending=True) == [(0.1, "start")]
    assert channel.keeper.restarts == 0


def test_one_that_falls_silent_is_started_anew_within_two_seconds() -> None:
    channel = Channel()
    channel.pass_time(10, sending=True)
    ((at, deed),) = channel.pass_time(2, sending=False)
    assert deed == "restart"
    assert SILENT_AFTER < at - 10 < 1.3
    assert channel.pass_time(10, sending=True) == []
    assert channel.keeper.restarts == 1


def test_one_that_does_not_come_has_its_process_ended_at_last_and_less_and_less_often() -> None:
    channel = Channel()
    deeds = channel.pass_time(60, sending=False)
    kinds = [deed for _, deed in deeds]
    assert kinds[:4] == ["start", "restart", "kill", "start"]
    assert deeds[1][0] > PATIENCE
    assert "kill" in kinds[4:]
    assert len(kinds) < 20


def test_the_file_is_to_blame_as_long_as_others_of_its_process_are_heard() -> None:
    company = Company()
    good, bad = Channel(company), Channel(company)
    deeds: list[tuple[float, Deed]] = []
    for _ in range(round(2 * SPARED * 10)):
        good.pass_time(0.1, sending=True)
        deeds += bad.pass_time(0.1, sending=False)
    kinds = [deed for _, deed in deeds]
    assert kinds[:6] == ["start", "restart", "skip", "restart", "kill", "start"]
    assert deeds[2][0] < 2 * PATIENCE + 2
    first, second = (at for at, deed in deeds if deed == "kill")
    assert SPARED <= second - first < SPARED + 60
    assert kinds.count("skip") > 10
    assert good.keeper.restarts == 0


def test_the_process_is_to_blame_first_where_nobody_of_it_is_heard() -> None:
    company = Company()
    others = [Channel(company) for _ in range(2)]
    channel = Channel(company)
    deeds: list[Deed] = []
    for _ in range(400):
        for other in others:
            other.pass_time(0.1, sending=False, able=False)
        deeds += (deed for _, deed in channel.pass_time(0.1, sending=False))
    assert deeds[:6] == ["start", "restart", "kill", "start", "restart", "skip"]


def test_a_process_that_says_nothing_is_ended_when_nothing_of_it_is_on_the_wire() -> None:
    company = Company()
    first, second = Channel(company), Channel(company)
    for channel in (first, second):
        channel.pass_time(10, sending=True)
    assert first.pass_time(0.9, sending=False, quiet=True) == []
    second.pass_time(0.9, sending=True)
    # The other is still heard.
    assert first.pass_time(1, sending=False, quiet=True) == []
    second.pass_time(1, sending=False, quiet=True)
    assert first.pass_time(0.1, sending=False, quiet=True) == [(12.0, "kill")]
    assert first.keeper.restarts == 1
    for channel in (first, second):
        channel.keeper.forget()
        ((_, deed),) = channel.pass_time(0.1, sending=False)
        assert deed == "start"
        assert channel.keeper.restarts == 1


def test_the_wire_is_not_to_blame() -> None:
    channel = Channel()
    channel.pass_time(10, sending=True)
    assert channel.pass_time(60, sending=False, able=False) == []
    # It comes back, and with it the patience.
    assert channel.pass_time(PATIENCE - 0.2, sending=False) == []
    assert channel.pass_time(10, sending=True) == []


def test_what_is_not_wanted_is_stopped_once_and_then_left_alone() -> None:
    channel = Channel()
    channel.pass_time(10, sending=True)
    assert channel.pass_time(10, sending=False, wanted=False) == [(10.1, "stop")]
    assert channel.pass_time(10, sending=True) == [(20.1, "start")]


def test_it_starts_with_a_new_process() -> None:
    channel = Channel()
    channel.pass_time(10, sending=True)
    channel.keeper.forget()
    assert channel.pass_time(0.1, sending=False) == [(10.1, "start")]
    assert channel.keeper.restarts == 1


def test_after_a_pause_it_has_its_patience() -> None:
    channel = Channel()
    channel.pass_time(10, sending=True)
    channel.now += 60
    channel.keeper.resumed(channel.now)
    assert channel.pass_time(3, sending=False) == []
    assert channel.pass_time(2, sending=False) != []


def test_what_it_says_of_itself() -> None:
    channel = Channel()
    channel.pass_time(0.1, sending=False)
    assert channel.keeper.is_starting(channel.now)
    assert not channel.keeper.is_on(channel.now, channel.heard)
    channel.pass_time(5, sending=True)
    assert channel.keeper.is_on(channel.now, channel.heard)
    assert not channel.keeper.is_on(channel.now + 1.1, channel.heard)
