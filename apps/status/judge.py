"""From facts to findings: what is wrong, and what to do. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from apps.status.facts import (
    Certificate,
    Clock,
    Disk,
    Facts,
    Finding,
    Network,
    Report,
    Seats,
    Trust,
    Unit,
)

FREE_AT_LEAST, FREE_SHARE = 1 << 30, 0.1
"""Bytes, and less where a tenth of the state partition is less.

Content leaves more free than that (`content_sync_reserve`), and all else keeps to bounds within it.
"""

STEADY_AFTER = 60.0
"""Seconds that a unit has to run after a restart to count as up again."""

GROUND_ONLY = {"ife-tunnel.service"}
"""Units that have nothing to do in flight."""

MAX_SEATS_NAMED = 12

RENEW_WITHIN, ENDS_SOON = timedelta(days=90), timedelta(days=30)


def judge(facts: Facts, at: datetime) -> Report:
    """The findings on `facts`, what is wrong first."""
    findings = sorted(_findings(facts, at), key=lambda finding: finding.level != "wrong")
    well = all(finding.level != "wrong" for finding in findings)
    return Report(at=at, well=well, findings=tuple(findings), facts=facts)


def _findings(facts: Facts, at: datetime) -> Iterator[Finding]:
    if facts.disk:
        yield from _disk(facts.disk)
    if facts.trust and (facts.provisioned or (facts.disk and facts.disk.state_is_lost)):
        # Without Secure Boot no TPM opens the state.
        yield from _trust(facts.trust)
    if not facts.provisioned:
        # Everything else that is missing follows from it.
        yield _wrong(
            "This server has not been provisioned.",
            "Add it to the inventory and run `ansible-playbook playbooks/site.yml -l HOST` "
            "from the controller: see docs/runbook.md.",
        )
    for unknown in facts.unknown:
        yield _wrong(
            f"The {unknown.part} could not be looked at: {unknown.why}.",
            "Run `ife-status` again, as root. If that does not help, see "
            "`journalctl -b -p warning`.",
        )
    if facts.provisioned:
        yield from _aircraft(facts)
        for certificate in facts.certificates or ():
            yield from _certificate(certificate, at)


def _aircraft(facts: Facts) -> Iterator[Finding]:
    if facts.disk and not facts.disk.encrypted and not facts.disk.state_is_lost:
        yield _note(
            "/var is not encrypted: who has the disk has the aircraft's keys.",
            "Fine in the lab. An aircraft's server needs its TPM 2.0 switched on before its first "
            "boot: see docs/runbook.md.",
        )
    for unit in facts.units or ():
        yield from _unit(unit)
    for network in facts.networks or ():
        if network.name is not None:
            yield from _network(network)
    if facts.seats:
        yield from _seats(facts.seats)
    if facts.clock:
        yield from _clock(facts.clock)


def _wrong(what: str, do: str) -> Finding:
    return Finding(level="wrong", what=what, do=do)


def _note(what: str, do: str) -> Finding:
    return Finding(level="note", what=what, do=do)


def _disk(disk: Disk) -> Iterator[Finding]:
    if disk.state_is_lost:
        yield _wrong(
            "The state partition could not be mounted: this server runs as a new one, and "
            "forgets everything when it restarts.",
            "Switch it off and on. If it is so again, see 'A lost state' in docs/runbook.md before "
            "anything is swapped.",
        )
    elif disk.read_only:
        yield _wrong(
            "/var can no longer be written.",
            "See `journalctl -k -b -g EXT4`, then restart: `systemctl reboot`. If it comes "
            "back, the disk is broken: swap the server, see docs/runbook.md.",
        )
    if disk.errors:
        yield _wrong(
            f"The file system of /var has met {disk.errors} errors.",
            "See `journalctl -k -g EXT4`. If they grow, the disk is breaking: swap the server, "
            "see docs/runbook.md.",
        )
    if disk.free < min(FREE_AT_LEAST, FREE_SHARE * disk.size):
        yield _wrong(
            f"/var is nearly full: {100 * disk.free // max(disk.size, 1)} % are free.",
            "Find what has grown: `du -xh /var | sort -h | tail -20`.",
        )


def _trust(trust: Trust) -> Iterator[Finding]:
    if not trust.secure_boot:
        yield _note(
            "Secure Boot is off: this server starts whatever is on its disk.",
            "Fine in the lab. On an aircraft, switch it on in the firmware: see docs/runbook.md.",
        )


def _unit(unit: Unit) -> Iterator[Finding]:
    problem = _problem(unit)
    if problem is None:
        return
    if unit.name not in GROUND_ONLY:
        yield problem
    elif unit.condition_met:
        yield _note(f"{problem.what} Fine in flight.", problem.do)


def _problem(unit: Unit) -> Finding | None:
    name, log = unit.name, f"`journalctl -b -u {unit.name}`"
    again = f"systemd tries again by itself. See {log}."
    if unit.load != "loaded":
        return _wrong(
            f"systemd cannot load {name}: {unit.load}.",
            f"See `systemctl status {name}`. The image has it, so something in /etc/systemd/system "
            "hides it.",
        )
    if unit.state == "failed":
        return _wrong(f"{name} has failed.", f"See {log}, then `systemctl restart {name}`.")
    if unit.substate.startswith("auto-restart"):
        return _wrong(f"{name} ends again and again ({unit.restarts or 0} restarts).", again)
    if unit.state == "inactive" and not unit.condition_met:
        return _wrong(
            f"{name} was not started, since something that it needs is not there.",
            f"`systemctl status {name}` says what. What an aircraft has of its own, "
            "playbooks/site.yml brings.",
        )
    if unit.state == "inactive":
        return _wrong(f"{name} is stopped.", f"`systemctl start {name}`, then see {log}.")
    if unit.state == "activating":
        return _note(f"{name} is still starting.", "Ask again in a minute.")
    return _of_active(unit, log, again)


def _of_active(unit: Unit, log: str, again: str) -> Finding | None:
    if unit.restarts and unit.seconds is not None and unit.seconds < STEADY_AFTER:
        return _wrong(
            f"{unit.name} was started again {unit.seconds:.0f} s ago ({unit.restarts} restarts).",
            again,
        )
    ours = unit.name.startswith("ife-")
    if ours and unit.says not in {"", "ready"}:
        return _wrong(
            f"{unit.name} says: {unit.says}.",
            f"It does what it can without. Mend what it names, and see {log}.",
        )
    if unit.restarts:
        return _note(
            f"{unit.name} has ended by itself {unit.restarts} times, and runs again.",
            f"{log} says why.",
        )
    return None


def _network(network: Network) -> Iterator[Finding]:
    name = network.interface
    if not network.present:
        yield _wrong(
            f"{name} is missing: no interface is the one that the inventory names.",
            "`ip link` shows the interfaces with their MAC addresses. After a swap, correct "
            "network_interfaces in the inventory and run playbooks/site.yml.",
        )
    elif not network.up:
        yield _wrong(f"{name} is switched off.", f"`networkctl up {name}`.")
    elif network.name == "ground":
        if not network.carrier:
            yield _note(f"{name} has no link.", "Fine in flight. On the ground, see its cable.")
        elif not network.addresses:
            yield _note(
                f"{name} has no address.",
                f"Nobody on the ground gave one. See `networkctl status {name}`.",
            )
    elif not network.carrier:
        yield _wrong(
            f"{name} has no link.",
            "Its cable is out, or what is at the other end is off.",
        )
    elif network.wanted not in network.addresses:
        yield _wrong(
            f"{name} does not have its address, {network.wanted}.",
            f"See `networkctl status {name}`, then `networkctl reload`.",
        )


def _seats(seats: Seats) -> Iterator[Finding]:
    if seats.waiting:
        yield _note(
            f"Seat control has just started: {seats.waiting} seats are not heard of yet.",
            "Ask again in a minute.",
        )
    elif not seats.live:
        yield _wrong(
            f"None of the {seats.total} seats reports.",
            "Fine while the cabin's power is off. Else look at cabin0, at the cabin's switches, "
            "and at `journalctl -b -u nginx.service`.",
        )
    elif seats.silent:
        named = " ".join(seats.silent[:MAX_SEATS_NAMED])
        more = len(seats.silent) - MAX_SEATS_NAMED
        yield _wrong(
            f"{len(seats.silent)} of {seats.total} seats are silent: {named}"
            + (f" and {more} more." if more > 0 else "."),
            "See their power and cables; several in a row share a switch. A player that was "
            "swapped needs its seat's certificate.",
        )


def _certificate(certificate: Certificate, at: datetime) -> Iterator[Finding]:
    left = certificate.ends - at
    if left > RENEW_WITHIN:
        return
    told = f"The certificate {certificate.name} ends on {certificate.ends:%Y-%m-%d}"
    who = {"server": "no seat and no crew panel", "gate": "no Hangar"}[certificate.name]
    yield (_note if left > ENDS_SOON else _wrong)(
        f"{told}: from then on {who} speaks to this server.",
        "Have it renewed from the controller, with `playbooks/pki.yml` and then "
        "`playbooks/site.yml`: see docs/runbook.md.",
    )


def _clock(clock: Clock) -> Iterator[Finding]:
    if not clock.synchronised:
        yield _note(
            "Nobody tells the clock the time; it runs by itself.",
            "Fine in flight. On the ground, see `chronyc sources` and ground0.",
        )
