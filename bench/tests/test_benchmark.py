"""What benchmarks have in common: whose turn it is, medians, and where results go."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import document
from bench.benchmark import Worst, in_turn


def test_all_are_measured_in_turn_and_the_medians_given() -> None:
    measured: list[str] = []
    values = iter([1.0, 10.0, 9.0, 30.0, 2.0, 20.0])

    def measure(name: str) -> tuple[float, float]:
        measured.append(name)
        return next(values), 7.0

    found = in_turn(3, {"ours": lambda: measure("ours"), "peer": lambda: measure("peer")})
    assert measured == ["ours", "peer"] * 3
    assert found == {"ours": (2.0, 7.0), "peer": (20.0, 7.0)}


def test_of_what_is_the_worst_the_highest_is_given() -> None:
    """Packets that are lost in two of five runs are not none."""
    values = iter([0.0, 0.0, 3.0, 0.0, 1.0])

    def measure() -> tuple[float, float]:
        value = next(values)
        return value, Worst(value)

    assert in_turn(5, {"ours": measure}) == {"ours": (0.0, 3.0)}


def test_results_take_the_place_of_those_of_their_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "benchmarks.md"
    path.write_text(
        "head\n<!-- pa: begin -->\nold\n<!-- pa: end -->\n"
        "between\n<!-- streaming: begin -->\n<!-- streaming: end -->\n"
    )
    monkeypatch.setattr(document, "DOCUMENT", path)
    document.write("pa", "new\n")
    document.write("streaming", "first\n")
    assert path.read_text() == (
        "head\n<!-- pa: begin -->\nnew\n<!-- pa: end -->\n"
        "between\n<!-- streaming: begin -->\nfirst\n<!-- streaming: end -->\n"
    )


@pytest.mark.parametrize(
    "kind",
    ["results", "boot", "provisioning", "fleet", "pa", "streaming", "imports", "gate", "carry"],
)
def test_the_document_has_a_place_for_each_kind(kind: str) -> None:
    text = document.DOCUMENT.read_text()
    assert text.count(f"<!-- {kind}: begin -->\n") == text.count(f"<!-- {kind}: end -->\n") == 1
