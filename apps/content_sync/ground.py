"""The ground put together: the link, the gate, heartbeats, and what is done while the gate is open.

It asks nobody whether the gate is open: the kernel and the bus say when something has changed, and
the service's tick lets time pass.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from nacl.signing import SigningKey

from apps.common import discretes, gate
from apps.common.backoff import BackOff
from apps.common.bus import Bus, Followed
from apps.common.calls import Client, RefusedError, UnavailableError
from apps.common.content import GateView, Kind
from apps.common.discretes import Discretes
from apps.common.gate import Fault, Heartbeat, Outcome, Request
from apps.common.health import Check
from apps.common.settings import SettingsError
from apps.common.usage import now as unix_millis
from apps.content_sync import hangar, importer, logs
from apps.content_sync.carry import Account
from apps.content_sync.hangar import HangarClient
from apps.content_sync.heartbeat import Heartbeats, Requests
from apps.content_sync.importer import Importer
from apps.content_sync.link import Gate, GateState, Link, LinkWatch
from apps.content_sync.pace import Pace
from apps.content_sync.settings import ContentSyncSettings
from apps.content_sync.source import Source
from apps.content_sync.spool import Spool
from apps.content_sync.store import Store, StoreError
from apps.content_sync.trust import Offer, Trust
from apps.content_sync.turnaround import Turnaround
from apps.content_sync.usage_out import UsageOut

log = logging.getLogger(__name__)

SOCKETS = Path("/run/ife")
READERS = SOCKETS / "usb_lockdown-reader.sock"
"""Where usb_lockdown has readers started: no app is behind it."""

STAGING = "gate"
"""The folder of what comes by the gate, in that of all content."""

TUNNEL = Path("/etc/ife/tunnel.env")
"""There is one where there is a tunnel (roles/tunnel)."""

TURN_WITHIN = 30.0
"""Seconds that the gate waits for a crew disk, before it says so and tries again later."""

LOG_TRIES = 10
"""Times that logs are sent, each while the gate is open."""

RETRY_FIRST, RETRY_MAX = 2.0, 60.0
"""Seconds between two of them."""

OPEN_WITHIN = 86_400.0
"""Seconds that logs wait for the gate to be open again."""


class OnBoard:
    """What the gate needs of the rest of this app.

    Args:
        store, trust: of this app.
        turn: to be held by whoever uses them.
        stop: set when the app ends.
    """

    def __init__(
        self, store: Store, trust: Trust, turn: threading.Lock, stop: threading.Event
    ) -> None:
        self.store = store
        self._trust = trust
        self._turn = turn
        self._stop = stop

    @property
    def trusted(self) -> Offer | None:
        """The newest that the ground has signed, as far as it is known here."""
        return self._trust.trusted

    def root_version(self) -> int:
        """See `turnaround.Board`."""
        with self._in_turn():
            return self._trust.root_version

    def look(self, source: Source) -> Offer:
        """See `turnaround.Board`."""
        with self._in_turn():
            return self._trust.look(source)

    def make_room(self, needed: int, offer: Offer) -> None:
        """See `turnaround.Board`."""
        with self._in_turn(), suppress(StoreError):
            self.store.make_room(needed, offer)

    def take(self, source: Source, kinds: Collection[Kind]) -> importer.Outcome:
        """See `turnaround.Board`."""
        with self._in_turn():
            return Importer(self.store, self._trust, stop=self._stop).run(
                source, kinds, partly=True
            )

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=TURN_WITHIN):
            raise TimeoutError("a crew disk is being loaded first")
        try:
            yield
        finally:
            self._turn.release()


class Ground:
    """Everything that goes by the ground link. Make it, `start` it, `tick` it, `close` it.

    Args:
        settings: of this app, with a Hangar.
        bus: that says of weight on wheels.
        on_board: the rest of this app.
        wall: the time of day, as far as it is known.
        tell: called when there is something new to tell; it does not wait.

    Raises:
        SettingsError: the Hangar's files cannot be used.
    """

    def __init__(
        self,
        settings: ContentSyncSettings,
        bus: Bus,
        on_board: OnBoard,
        wall: Callable[[], datetime],
        tell: Callable[[], None],
    ) -> None:
        if settings.hangar_address is None:
            raise SettingsError("IFE_HANGAR_ADDRESS: there is none")
        self._settings = settings
        self._address = settings.hangar_address
        self._bus = bus
        self._on_board = on_board
        self._tell = tell
        self._gate = Gate(needs_wow=settings.gate_needs_wow)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        """Held from a request for logs to its end."""
        self._is_open = threading.Event()
        """Set while the gate is."""
        self._link = Link()
        self._wow: bool | None = None
        self.state = GateState(open=False)
        self._watch = LinkWatch(settings.ground_interface, self._address, self._link_is)
        bandwidth = settings.gate_bandwidth * 1000 or None
        self._pace = Pace(bandwidth)
        self.usage = UsageOut(
            Spool(
                settings.usage_database_url,
                settings.registration,
                _signing_key(settings.usage_key),
                settings.usage_spool * 1024 * 1024,
            ),
            self.connect,
        )
        self._requests = Requests()
        self.heartbeats = Heartbeats(self.connect, self._heartbeat, self._requests, self._asked)
        self.turnaround = Turnaround(
            Account(
                self._address,
                settings.hangar_ssh_port,
                settings.hangar_user,
                settings.gate_ssh_key,
                settings.hangar_known_hosts,
                settings.ground_interface,
                bandwidth,
            ),
            settings.content_directory / STAGING,
            settings.runtime_directory,
            on_board,
            self._usage_first,
            settings.gate_minutes * 60.0,
            wall,
            tell,
        )
        self.connect().close()

    def start(self) -> None:
        """Begin to watch the link."""
        self._discretes = Followed(
            self._bus, discretes.TOPIC, Discretes, discretes.GOOD_FOR, lambda _: self.tick()
        )
        self.usage.start()
        self.turnaround.start()
        self.heartbeats.start()
        self._watch.start()

    def close(self) -> None:
        """Stop everything."""
        self._watch.close()
        self.heartbeats.close()
        self.turnaround.close()
        self.usage.close()

    def connect(self) -> HangarClient:
        """The Hangar, by HTTPS.

        Raises:
            SettingsError: a file for that is wrong.
        """
        settings = self._settings
        try:
            return HangarClient(
                settings.hangar_url,
                self._address,
                settings.hangar_authority,
                settings.gate_certificate,
                settings.gate_key,
                self._pace,
            )
        except OSError as error:
            raise SettingsError(f"the certificates for the Hangar: {error}") from error

    def parts(self) -> dict[str, Check]:
        """For `Health`: what may be away, and why it is."""
        return {
            "ground link": lambda: self._watch.trouble,
            "gate": lambda: self.turnaround.trouble,
            "heartbeats": lambda: self.heartbeats.trouble,
            "usage": lambda: self.usage.trouble,
        }

    def tick(self) -> None:
        """Judge anew. Called at each change, and each second, for time alone changes something."""
        with self._lock:
            known = self._discretes.value
            wow = known.wow if known else None
            state = self._gate.judge(self._link, wow, time.monotonic())
            if state == self.state:
                return
            self.state = state
            if state.open:
                self._is_open.set()
            else:
                self._is_open.clear()
            log.info("the gate is %s", "open" if state.open else f"closed: {state.why}")
            # Within the lock, so that all hear of it in the order in which it moved. None waits.
            self.turnaround.gate(state)
            self.heartbeats.link(state.open)
            self.usage.link(state.open)
        self._tell()

    def _usage_first(self, seconds: float) -> None:
        """Wait until usage has gone out; not for longer than that, nor where it does not go."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.state.open:
            if self.usage.wait_idle(0.5) or self.usage.trouble:
                return

    def _link_is(self, link: Link) -> None:
        with self._lock:
            self._link = link
        self.tick()

    def view(self) -> GateView:
        """For the crew."""
        plan = self.turnaround.plan
        last = self.heartbeats.last
        says = self.state.why
        if self.state.open:
            says = plan.says if plan else "the Hangar is asked what is new"
        return GateView(
            open=self.state.open,
            says=says,
            title=plan.order[0].title if plan and plan.order else None,
            bytes=plan.bytes_total if plan else 0,
            bytes_fit=plan.bytes_fit if plan else 0,
            bytes_done=plan.bytes_done if plan else 0,
            rate=round(self.turnaround.rate.value),
            seconds_left=plan.seconds if plan else None,
            last_heartbeat=datetime.fromtimestamp(last, UTC) if last else None,
            trouble=self.turnaround.trouble or self.heartbeats.trouble,
        )

    # -- what the Hangar is told, and asks for ------------------------------------------------

    def _heartbeat(self, outcomes: tuple[Outcome, ...]) -> Heartbeat:
        store, plan = self._on_board.store, self.turnaround.plan
        current, trusted = store.current, self._on_board.trusted
        loading = None
        if plan and plan.order and self.turnaround.coming:
            loading = gate.Loading(
                version=self.turnaround.coming,
                bytes_done=plan.bytes_done,
                bytes_total=plan.bytes_total,
            )
        content = gate.Content(loading=loading)
        if current is not None:
            content = gate.Content(
                version=current.version,
                missing=current.missing,
                kinds=dict(current.kinds),
                # The ground may have signed it anew since it was put in force.
                fresh_until=int((trusted or current).expires.timestamp() * 1000),
                loading=loading,
            )
        system = os.statvfs(store.folder)
        return Heartbeat(
            registration=self._settings.registration,
            at=unix_millis(),
            boot_id=self._settings.boot_id,
            versions=_versions(),
            content=content,
            space=gate.Space(free=store.free(), total=system.f_blocks * system.f_frsize),
            spool=self.usage.depth(),
            bite=_bite(sorted(set(SOCKETS.glob("*.sock")) - {READERS})),
            outcomes=outcomes,
        )

    def _asked(self, request: Request) -> None:
        """Decide what is made of a request."""
        if request.kind == "sync_now":
            self._decide(request, "accepted")
            self.turnaround.sync_now(lambda: self._decide(request, "done"))
        elif request.kind == "open_tunnel":
            self._open_tunnel(request)
        elif request.kind == "send_logs":
            if not self._sending.acquire(blocking=False):
                self._decide(request, "refused", "logs are being sent already")
                return
            self._decide(request, "accepted")
            # It takes a while.
            threading.Thread(target=self._send_logs, args=(request,), daemon=True).start()
        else:
            self._decide(request, "refused", "this aircraft does not do that")

    def _open_tunnel(self, request: Request) -> None:
        if not TUNNEL.exists():
            self._decide(request, "refused", "this aircraft has no tunnel to the ground")
            return
        # ife-tunnel.path sees it.
        (self._settings.runtime_directory / "open_tunnel").touch()
        self._decide(request, "done")

    def _send_logs(self, request: Request) -> None:
        try:
            self._put_logs(request, logs.collect())
        except (logs.LogsError, OSError, SettingsError) as error:
            self._decide(request, "refused", _line(str(error)))
        else:
            self._decide(request, "done")
        finally:
            self._sending.release()

    def _put_logs(self, request: Request, text: bytes) -> None:
        """Hand logs over, by as many connections as that takes, up to `LOG_TRIES`.

        Raises:
            OSError: the Hangar refuses them, or none was good enough.
            SettingsError: a file for that is wrong.
        """
        back_off = BackOff(RETRY_FIRST, RETRY_MAX)
        for tries_left in reversed(range(LOG_TRIES)):
            client = self.connect()
            try:
                client.put_logs(request.id, text)
                return
            except OSError as error:
                if isinstance(error, hangar.RefusedError) or not tries_left:
                    raise
                log.info("the logs did not come over yet", extra={"error": str(error)})
            finally:
                client.close()
            time.sleep(back_off.delay())
            self._is_open.wait(OPEN_WITHIN)

    def _decide(self, request: Request, state: str, why: str = "") -> None:
        log.info("a request of the Hangar", extra={"request": request.kind, "outcome": state})
        self._requests.decide(
            Outcome.model_validate({"id": request.id, "state": state, "why": why})
        )
        self.heartbeats.send_soon()


def _versions() -> dict[str, str]:
    """Of the image and of what it carries."""
    found = {"ife": version("ife")}
    try:
        image = platform.freedesktop_os_release().get("IMAGE_VERSION")
    except OSError:
        image = None
    return found | ({"image": image} if image else {})


def _bite(sockets: Iterable[Path]) -> gate.Bite:
    """What the apps on board say of themselves (`GET /healthz`)."""
    faults = []
    for socket in sockets:
        try:
            report = Client(socket).health()
        except (UnavailableError, RefusedError) as error:
            faults.append(_fault(socket.stem, str(error)))
            continue
        if report.why_not:
            faults.append(_fault(report.app, report.why_not))
        faults += [_fault(f"{report.app} {part.part}", part.why) for part in report.degraded]
    return gate.Bite(count=len(faults), faults=tuple(faults[: gate.MAX_BITE]))


def _fault(part: str, why: str) -> Fault:
    """What an app or a library says may be long, or have several lines."""
    return Fault(part=re.sub(r"[^A-Za-z0-9 ._-]", "-", part)[:64], why=_line(why))


def _line(text: str) -> str:
    """What a library says, as a `gate.Line`."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


def _signing_key(path: Path) -> SigningKey:
    try:
        return SigningKey(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"IFE_USAGE_KEY: {path}: {error}: see playbooks/pki.yml") from error
