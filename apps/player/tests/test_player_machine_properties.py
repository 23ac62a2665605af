"""The machine against a network that loses, repeats and reorders, and an honest server."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from apps.common.commands import (
    AnyAction,
    AttendantCallClear,
    Identify,
    LimitVolume,
    LockScreen,
    Mute,
    Pause,
    Play,
    Power,
    ReadingLight,
    Reset,
    Resume,
    SetBrightness,
    SetVolume,
    ShowMessage,
)
from apps.common.protocol import (
    MAX_FRAMES_PER_ANSWER,
    Address,
    Beacon,
    Command,
    FrameSigner,
    FrameVerifier,
    Held,
    Status,
    StatusAnswer,
)
from apps.player.machine import Answer, Do, Effect, Machine, Report, Restart, Save

SEAT = "12C"
MISSING = "film-99"
SIGNER = FrameSigner(bytes(32))
BOOT_ID = "0f" * 16

FOR_US: list[tuple[int, Address]] = [
    (1, "all"),
    (1, ("12C", "14A")),
    (2, ((10, 14, "ABC"),)),
]
FOR_OTHERS: list[tuple[int, Address]] = [(1, ("14A",)), (2, ((10, 14, "AB"),))]

ACTIONS = st.one_of(
    st.builds(Mute, muted=st.booleans()),
    st.builds(SetVolume, volume=st.integers(0, 100)),
    st.builds(LimitVolume, limit=st.integers(0, 100)),
    st.builds(SetBrightness, brightness=st.integers(0, 100)),
    st.builds(LockScreen, locked=st.booleans()),
    st.builds(Power, on=st.booleans()),
    st.builds(ReadingLight, on=st.booleans()),
    st.sampled_from(
        [
            Pause(),
            Resume(),
            Play(media="film-1"),
            Play(media=MISSING),
            ShowMessage(text="hello", seconds=3),
            Identify(),
            AttendantCallClear(),
            Reset(),
        ]
    ),
)


@dataclass
class Server:
    """What seat control does for one seat, in its shortest form."""

    epoch: int
    ahead_ms: int
    """Cabin time less monotonic time."""
    protocol: int
    last: int = 0
    log: dict[int, Command] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    believed_applied: set[int] = field(default_factory=set)
    in_force: dict[str, int] = field(default_factory=dict)

    def cabin(self, now: float) -> int:
        return self.ahead_ms + int(now * 1000)

    def issue(
        self, action: AnyAction, version: int, to: Address, lifetime: float | None, now: float
    ) -> bytes:
        self.last += 1
        iat = self.cabin(now)
        command = Command(
            v=2 if isinstance(action, ReadingLight | Identify) else version,
            epoch=self.epoch,
            seq=self.last,
            iat=iat,
            exp=None if lifetime is None else iat + int(lifetime * 1000),
            to=to,
            action=action,
        )
        self.log[self.last] = command
        if command.is_for(SEAT):
            self.open.add(self.last)
            if action.retained:
                self.in_force[action.name] = self.last
        return SIGNER.sign(command)

    def beacon(self, now: float) -> bytes:
        return SIGNER.sign(Beacon(epoch=self.epoch, seq=self.last, iat=self.cabin(now)))

    def status(self, status: Status, now: float) -> Answer:
        self._confirm(status)
        body = self._missed(status, self.cabin(now))
        return Answer(self.epoch, self.cabin(now), body)

    def _confirm(self, status: Status) -> None:
        if status.held.epoch != self.epoch:
            return
        refused = {refusal.seq for refusal in status.refused}
        for seq in [seq for seq in self.open if seq <= status.held.seq]:
            self.open.discard(seq)
            if seq not in refused:
                self.believed_applied.add(seq)

    def _missed(self, status: Status, cabin: int) -> StatusAnswer | None:
        anew = status.fresh or status.held.epoch != self.epoch
        if not anew and status.held.seq >= self.last:
            return None
        after = status.held.seq if status.held.epoch == self.epoch else 0
        wanted = sorted(seq for seq in self.in_force.values() if seq <= after) if anew else []
        for seq in range(after + 1, self.last + 1):
            command = self.log[seq]
            if not command.is_for(SEAT):
                continue
            superseded = command.action.retained and self.in_force[command.action.name] != seq
            if superseded or (command.exp is not None and command.exp < cabin):
                self.open.discard(seq)
            else:
                wanted.append(seq)
        upto = self.last
        if len(wanted) > MAX_FRAMES_PER_ANSWER and not anew:
            wanted = wanted[:MAX_FRAMES_PER_ANSWER]
            upto = wanted[-1]
        # Of too many, a fresh seat misses the oldest momentary ones.
        while len(wanted) > MAX_FRAMES_PER_ANSWER:
            oldest = next(seq for seq in wanted if not self.log[seq].action.retained)
            wanted.remove(oldest)
            self.open.discard(oldest)
        frames = [frame for seq in wanted if (frame := self._frame(seq)) is not None]
        return StatusAnswer(frames=tuple(frames), upto=upto, in_force=anew)

    def _frame(self, seq: int) -> str | None:
        command = self.log[seq]
        if command.v > self.protocol:
            if isinstance(command.action, ReadingLight | Identify):
                self.open.discard(seq)
                return None
            command = command.model_copy(update={"v": 1, "to": (SEAT,)})
        return SIGNER.sign(command).decode()


class Cabin(RuleBasedStateMachine):
    """One player, rebooted at will; the rules are what can happen to it."""

    @initialize(protocol=st.sampled_from([1, 2]), seed=st.integers(0, 100))
    def begin(self, protocol: int, seed: int) -> None:
        self.now = 1000.0
        self.protocol = protocol
        self.rand = random.Random(seed)  # noqa: S311
        self.epochs = [1000]
        self.server = Server(epoch=1000, ahead_ms=3_600_000, protocol=protocol)
        self.network: list[bytes] = []
        self.disk = Held(epoch=0, seq=0)
        self.applied_ever: set[tuple[int, int]] = set()
        self.resets: list[tuple[int, int]] = []
        self.boot()

    def boot(self) -> None:
        self.saving: Save | None = None
        self.answer: Answer | None = None
        self.under_way = False
        self.at_boot = self.disk
        self.momentary: list[tuple[int, int]] = []
        self.by_setting: dict[str, int] = {}
        self.epoch_of_settings = 0
        self.cabin_known: tuple[float, float] | None = None
        self.largest_iat = 0
        self.last_held = (0, 0)
        self.machine = Machine(
            seat=SEAT,
            boot_id=BOOT_ID,
            firmware="1",
            held=self.disk,
            verifier=FrameVerifier([SIGNER.public_key], speaks=self.protocol),
            rand=self.rand.random,
            now=self.now,
            protocol=self.protocol,
        )
        self.carry_out(self.machine.boot())

    # -- the agent's part -------------------------------------------------------------------

    def carry_out(self, effects: list[Effect]) -> None:
        queue = list(effects)
        while queue:
            effect = queue.pop(0)
            match effect:
                case Do(command=command):
                    action = command.action
                    if isinstance(action, Play) and action.media == MISSING:
                        queue += self.machine.cannot("no title", self.now)
                    else:
                        self.note_applied(command)
                        queue += self.machine.done(effect, self.now)
                case Save() as save:
                    assert self.saving is None
                    self.saving = save
                case Report():
                    assert not self.under_way
                    self.under_way = True
                    status = self.machine.status(None, 40.0, self.now)
                    self.answer = self.server.status(status, self.now)
                case Restart(command=command):
                    # Never twice, whatever is rebooted when.
                    assert (command.epoch, command.seq) not in self.resets
                    self.resets.append((command.epoch, command.seq))
                    self.applied_ever.add((command.epoch, command.seq))
                    self.boot()
                    return
                case _:
                    pass

    def note_applied(self, command: Command) -> None:
        number = (command.epoch, command.seq)
        assert command.is_for(SEAT)
        assert command.epoch == self.server.epoch or command.epoch == self.machine.held.epoch
        if command.epoch != self.epoch_of_settings:
            self.by_setting.clear()
            self.epoch_of_settings = command.epoch
        if command.exp is not None:
            assert command.exp >= self.cabin_lower_bound()
        if (setting := command.action.retained) is not None:
            assert command.seq > self.by_setting.get(setting, 0)
            self.by_setting[setting] = command.seq
        else:
            assert number not in self.momentary
            if command.epoch == self.at_boot.epoch:
                assert command.seq > self.at_boot.seq
            earlier = [seq for epoch, seq in self.momentary if epoch == command.epoch]
            assert not earlier or command.seq > max(earlier)
            self.momentary.append(number)
        self.applied_ever.add(number)

    def cabin_lower_bound(self) -> float:
        """What cabin time is at least, as far as the player was told."""
        if self.cabin_known is None:
            return self.largest_iat
        cabin, when = self.cabin_known
        return max(self.largest_iat, cabin + (self.now - when) * 1000)

    # -- what happens -----------------------------------------------------------------------

    @rule(
        action=ACTIONS,
        to=st.sampled_from(FOR_US + FOR_US + FOR_OTHERS),
        lifetime=st.floats(0.5, 10.0),
        heard=st.booleans(),
    )
    def command(
        self, action: AnyAction, to: tuple[int, Address], lifetime: float, heard: bool
    ) -> None:
        expiry = None if action.retained else lifetime
        datagram = self.server.issue(action, *to, expiry, self.now)
        if heard:
            self.hear(datagram)
        self.network.append(datagram)

    @rule()
    def beacon(self) -> None:
        self.network.append(self.server.beacon(self.now))

    @precondition(lambda self: self.network)
    @rule(data=st.data(), again=st.booleans())
    def arrive(self, data: st.DataObject, again: bool) -> None:
        index = data.draw(st.integers(0, len(self.network) - 1))
        datagram = self.network[index]
        if not again:
            del self.network[index]
        self.hear(datagram)

    def hear(self, datagram: bytes) -> None:
        frame = FrameVerifier([SIGNER.public_key]).verify(datagram)
        if frame.epoch == self.machine.held.epoch:
            self.largest_iat = max(self.largest_iat, frame.iat)
        self.carry_out(self.machine.datagram(datagram, self.now))

    @precondition(lambda self: self.network)
    @rule()
    def all_lost(self) -> None:
        self.network.clear()

    @rule(seconds=st.sampled_from([0.005, 0.05, 0.3, 1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.machine.next_at <= self.now:
            self.carry_out(self.machine.tick(self.now))

    @precondition(lambda self: self.under_way)
    @rule()
    def answer_arrives(self) -> None:
        answer = self.answer
        self.under_way = False
        assert answer is not None
        if answer.epoch != self.machine.held.epoch:
            self.cabin_known, self.largest_iat = None, 0
        effects = self.machine.answered(answer, self.now)
        if answer.epoch == self.machine.held.epoch:
            self.cabin_known = (answer.cabin_ms, self.now)
        self.carry_out(effects)

    @precondition(lambda self: self.under_way)
    @rule(how=st.sampled_from(["failed", "turned_away"]))
    def answer_is_lost(self, how: str) -> None:
        self.under_way = False
        self.carry_out(getattr(self.machine, how)(self.now))

    @precondition(lambda self: self.saving)
    @rule()
    def disk_is_done(self) -> None:
        assert self.saving is not None
        self.disk = self.saving.held
        self.saving = None
        self.carry_out(self.machine.saved(None, self.now))

    @rule(written=st.booleans())
    def power_is_cut(self, written: bool) -> None:
        if self.saving is not None and written:
            self.disk = self.saving.held
        self.boot()

    @rule(newer=st.booleans(), ahead_ms=st.sampled_from([0, 3_600_000]))
    def server_is_swapped(self, newer: bool, ahead_ms: int) -> None:
        epoch = max(self.epochs) + 1 if newer else min(self.epochs) - 1
        self.epochs.append(epoch)
        self.server = Server(epoch, ahead_ms, self.protocol)

    # -- what always holds ------------------------------------------------------------------

    @invariant()
    def held_never_goes_back(self) -> None:
        if not hasattr(self, "machine"):
            return
        held = (self.machine.held.epoch, self.machine.held.seq)
        if held[0] == self.last_held[0]:
            assert held[1] >= self.last_held[1]
        self.last_held = held

    @invariant()
    def server_believes_the_truth(self) -> None:
        if not hasattr(self, "server"):
            return
        for seq in self.server.believed_applied:
            action = self.server.log[seq].action
            # A power cut may come between the save and the deed; what is in force is then
            # told again.
            if self.protocol > 1 and not isinstance(action, Reset | Power):
                assert (self.server.epoch, seq) in self.applied_ever

    def teardown(self) -> None:
        """HTTP gets through at last, and nothing else: all is as the server wants it."""
        if not hasattr(self, "machine"):
            return
        for _ in range(60):
            if self.under_way:
                self.answer_arrives()
            if self.saving:
                self.disk_is_done()
            if self.is_settled():
                break
            self.now = max(self.now, min(self.machine.next_at, self.now + 10))
            self.carry_out(self.machine.tick(self.now))
        else:
            raise AssertionError("the player never came to rest")
        self.settings_are_in_force()

    def is_settled(self) -> bool:
        held = Held(epoch=self.server.epoch, seq=self.server.last)
        return not self.under_way and self.machine.held == held and not self.machine.fresh

    def settings_are_in_force(self) -> None:
        seat = self.machine.seat
        have = {
            "power": Power(on=seat.on),
            "lock_screen": LockScreen(locked=seat.locked),
            "mute": Mute(muted=seat.muted),
            "set_volume": SetVolume(volume=seat.chosen_volume),
            "limit_volume": LimitVolume(limit=seat.limit),
            "set_brightness": SetBrightness(brightness=seat.brightness),
            "reading_light": ReadingLight(on=seat.reading_light),
        }
        for name, seq in self.server.in_force.items():
            if name != "reading_light" or self.protocol > 1:
                assert have[name] == self.server.log[seq].action


Cabin.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_the_player_in_a_bad_network = Cabin.TestCase
