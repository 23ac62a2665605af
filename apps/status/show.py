"""The report in words, at most 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from apps.status.facts import Clock, Disk, Facts, Finding, Network, Report, Seats, Trust, Unit

WIDTH = 80
CONSOLE_WIDTH = 56
"""The journal puts some 24 columns before a line that it shows on the console."""

MAX_SILENT = 10

_RED, _YELLOW, _GREEN, _BOLD, _PLAIN = (f"\x1b[{code}m" for code in ("1;31", "33", "32", "1", "0"))


def plain(report: Report, *, colour: bool) -> str:
    """All of the report, for a person."""
    facts = report.facts
    lines = [*_head(facts, WIDTH), ""]
    if facts.units is not None:
        lines += [*_units(facts.units), ""]
    if facts.networks is not None:
        lines += [*_networks(facts.networks), ""]
    if facts.trust:
        lines.append(f"Boot     {_boot(facts.trust)}")
        lines.append(f"SSH key  {facts.trust.host_key or 'none yet'}")
    if facts.clock:
        lines.append(f"Clock    {_clock(facts.clock)}")
    if facts.certificates:
        ends = (f"{one.name} until {one.ends:%Y-%m-%d}" for one in facts.certificates)
        lines.append(f"Keys     {', '.join(ends)}")
    if facts.disk:
        lines.append(f"Disk     {_disk(facts.disk)}")
    if facts.seats:
        lines += textwrap.wrap(f"Seats    {_seats(facts.seats)}", WIDTH, subsequent_indent=" " * 9)
    if lines[-1]:
        lines.append("")
    lines += _findings(report, WIDTH)
    return _joined(lines, report, colour=colour)


def short(report: Report, *, colour: bool) -> str:
    """Who this is and what is wrong, for the console; how to reach it, while it is new."""
    facts = report.facts
    lines = [*_head(facts, CONSOLE_WIDTH), *_findings(report, CONSOLE_WIDTH)]
    if not facts.provisioned:
        lines += [_interface(network) for network in facts.networks or ()]
        if facts.trust and facts.trust.host_key:
            lines += ["SSH key:", f"  {facts.trust.host_key}"]
    return _joined(lines, report, colour=colour)


def _joined(lines: list[str], report: Report, *, colour: bool) -> str:
    if colour:
        worst = _GREEN if report.well else _RED
        codes = {"Wrong:": worst, "Note:": _YELLOW, "All is well.": _GREEN}
        lines = [_BOLD + lines[0] + _PLAIN, *lines[1:]]
        for word, code in codes.items():
            lines = [
                line.replace(word, code + word + _PLAIN, 1) if line.startswith(word) else line
                for line in lines
            ]
    return "".join(f"{line}\n" for line in lines)


def _head(facts: Facts, width: int) -> Iterator[str]:
    who = facts.registration or "An aircraft's server"
    versions = facts.versions
    if versions is None:
        yield who
        return
    parts = [f"ife {versions.software}"]
    if versions.image:
        slot = f" (slot {versions.slot})" if versions.slot else ""
        parts.append(f"image {versions.image} {versions.image_version}{slot}")
    parts.append(f"Linux {versions.kernel}")
    yield from textwrap.wrap(f"{who}: {', '.join(parts)}", width, subsequent_indent="  ")


def _units(units: tuple[Unit, ...]) -> Iterator[str]:
    yield f"{'Unit':<26} {'State':<26} {'For':>8} {'Restarts':>8} {'MiB':>6}"
    for unit in units:
        name = unit.name.removesuffix(".service")[:26]
        state = unit.load if unit.load != "loaded" else f"{unit.state} ({unit.substate})"
        restarts = "" if unit.restarts is None else str(unit.restarts)
        memory = "" if unit.memory is None else f"{unit.memory / 2**20:.0f}"
        line = f"{name:<26} {state[:26]:<26} {_age(unit.seconds):>8} {restarts:>8} {memory:>6}"
        yield line.rstrip()


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {name}"
    return f"{seconds:.0f} s"


def _networks(networks: tuple[Network, ...]) -> Iterator[str]:
    yield f"{'Network':<10} {'Interface':<15} {'State':<12} {'MAC address':<17} Address"
    for network in networks:
        if not network.present:
            state = "missing"
        elif not network.up:
            state = "off"
        else:
            state = "link" if network.carrier else "no link"
        yield (
            f"{network.name or '-':<10} {network.interface:<15} {state:<12} "
            f"{network.mac or '':<17} {' '.join(network.addresses[:1])}"
        ).rstrip()


def _interface(network: Network) -> str:
    address = network.addresses[0] if network.addresses else "no address"
    return f"{network.interface:<15} {network.mac or '':<17} {address}"


def _boot(trust: Trust) -> str:
    if trust.secure_boot is None:
        return "without UEFI"
    return f"Secure Boot is {'on' if trust.secure_boot else 'off'}"


def _clock(clock: Clock) -> str:
    if not clock.synchronised:
        return "runs by itself, nobody tells it the time"
    source = f" by {clock.source}" if clock.source else ""
    if clock.behind is None:
        return f"synchronised{source}"
    side = "behind" if clock.behind > 0 else "ahead"
    return f"synchronised{source}, {abs(clock.behind) * 1000:.3f} ms {side}"


def _disk(disk: Disk) -> str:
    text = f"/var has {disk.free / 2**30:.1f} of {disk.size / 2**30:.1f} GiB free"
    if disk.state_is_lost:
        text += ", in memory"
    if disk.read_only:
        text += ", cannot be written"
    if disk.errors is not None:
        text += f", {disk.errors} errors"
    if disk.encrypted:
        text += ", encrypted"
    return text


def _seats(seats: Seats) -> str:
    text = f"{seats.live} of {seats.total} live ({seats.layout})"
    if seats.silent:
        more = " ..." if len(seats.silent) > MAX_SILENT else ""
        text += f"; silent: {' '.join(seats.silent[:MAX_SILENT])}{more}"
    return text


def _findings(report: Report, width: int) -> Iterator[str]:
    for finding in report.findings:
        yield from _finding(finding, width)
    if report.well:
        yield "All is well."


def _finding(finding: Finding, width: int) -> Iterator[str]:
    word = "Wrong:" if finding.level == "wrong" else "Note:"
    yield from textwrap.wrap(f"{word:<6} {finding.what}", width, subsequent_indent=" " * 7)
    yield from textwrap.wrap(finding.do, width, initial_indent=" " * 7, subsequent_indent=" " * 7)
