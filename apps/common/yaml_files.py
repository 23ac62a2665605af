"""YAML files of ours: little of YAML, a pydantic model, and the line of each mistake.

Mappings, lists and plain text, of which the model makes numbers. Aliases are refused, since a few
lines of them can stand for gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.reader import ReaderError

MAX_FILE = 64 * 1024
MAX_DEPTH = 6
"""Levels of nesting; the deepest of our models has five."""

Where = tuple[str | int, ...]
"""A place in a file, as pydantic names it: ``("rows", 2, "letters")``."""

Lines = Mapping[Where, int]

Problem = tuple[int, str]
"""A line and what is wrong there."""

Data = str | list[Any] | dict[str, Any]
M = TypeVar("M", bound=BaseModel)


class _UnreadableError(Exception):
    """A mistake that hides what comes after it in the file."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read(
    path: Path, model: type[M], contradictions: Callable[[M, Lines], Iterable[Problem]]
) -> tuple[M | None, list[str]]:
    """The file as `model`, and a line for each mistake: ``file.yml:12: what``.

    Args:
        path: of the file.
        model: what it must be.
        contradictions: finds what no single field shows, in a file that is right otherwise.
    """
    try:
        return _read(path, model, contradictions)
    except OSError as error:
        return None, [f"{path}: {error.strerror}"]
    except _UnreadableError as error:
        return None, [f"{path}:{error.line}: {_in_one_line(str(error))}"]


def _read(
    path: Path, model: type[M], contradictions: Callable[[M, Lines], Iterable[Problem]]
) -> tuple[M | None, list[str]]:
    text = _text(path)
    reader = _Reader(text)
    try:
        data = reader.read()
    except MarkedYAMLError as error:
        message = f"not YAML: {error.problem}"
        if error.context_mark:
            message += f" {error.context} (from line {error.context_mark.line + 1})"
        raise _UnreadableError(error.problem_mark.line + 1, message) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _UnreadableError(line, f"not YAML: {error.reason}") from error
    file = None
    try:
        file = model.model_validate(data)
    except ValidationError as error:
        problems = [_explain(problem, reader.lines) for problem in error.errors()]
    else:
        problems = list(contradictions(file, reader.lines))
    return file, [f"{path}:{line}: {_in_one_line(told)}" for line, told in sorted(problems)]


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise _UnreadableError(1, f"the file is over {MAX_FILE // 1024} KiB, none is that large")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _UnreadableError(line, "this is not UTF-8 text") from error


class _Reader:
    """Makes plain data of a YAML text and notes the line of everything."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Event] = YAML(typ="safe", pure=True).parse(text)
        self.lines: dict[Where, int] = {(): 1}

    def read(self) -> Data:
        """The one document of the text."""
        event = next(self._events)
        while isinstance(event, StreamStartEvent | DocumentStartEvent):
            event = next(self._events)
        if isinstance(event, StreamEndEvent):
            raise _UnreadableError(1, "the file is empty")
        data = self._value((), event)
        next(self._events)
        event = next(self._events)
        if not isinstance(event, StreamEndEvent):
            raise _UnreadableError(_line(event), "here a second document begins")
        return data

    def _value(self, where: Where, event: Event) -> Data:
        if isinstance(event, ScalarEvent):
            return str(event.value)
        if isinstance(event, AliasEvent):
            raise _UnreadableError(_line(event), "aliases (*name) are not allowed here")
        if len(where) >= MAX_DEPTH:
            raise _UnreadableError(_line(event), "this is nested too deep")
        if isinstance(event, SequenceStartEvent):
            return self._sequence(where)
        return self._mapping(where)

    def _sequence(self, where: Where) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            here = (*where, len(items))
            self.lines[here] = _line(event)
            items.append(self._value(here, event))
        return items

    def _mapping(self, where: Where) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(key := next(self._events), MappingEndEvent):
            if not isinstance(key, ScalarEvent):
                raise _UnreadableError(_line(key), "a key is a single word")
            here = (*where, key.value)
            if here in self.lines:
                raise _UnreadableError(
                    _line(key), f"{key.value} is there twice, also in line {self.lines[here]}"
                )
            self.lines[here] = _line(key)
            items[key.value] = self._value(here, next(self._events))
        return items


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _in_one_line(message: str) -> str:
    """A message, in which a name of the file may be that goes over several lines."""
    return " ".join(message.split())


def _explain(problem: Mapping[str, Any], lines: Lines) -> Problem:
    """A line and a message for one of pydantic's errors."""
    where: Where = tuple(part for part in problem["loc"] if part != "[key]")
    known = where
    while known not in lines:
        known = known[:-1]
    name = next((part[:40] for part in reversed(where) if isinstance(part, str)), "the file")
    match problem["type"]:
        case "missing":
            message = f"{name} is missing"
        case "extra_forbidden":
            message = f"{name} is not a field here"
        case "model_type":
            message = f"{name}: fields belong here, each as name: value"
        case "too_short":
            message = f"{name} is empty"
        case "value_error":
            message = f"{name}: {problem['ctx']['error']}"
        case _:
            message = f"{name}: {problem['msg']}"
    return lines[known], message
