"""Actions as the page's forms send them: fields of `apps.common.commands`, as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from apps.common.commands import ACTIONS, Action, AnyAction

_ACTION: TypeAdapter[AnyAction] = TypeAdapter(AnyAction)


class ActionError(ValueError):
    """A form that is no action. `field` is the part of it that is wrong."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field


def parse(form: Mapping[str, str]) -> AnyAction:
    """The action that a form means.

    Raises:
        ActionError: there is no such action, or a field is missing or wrong.
    """
    kind = ACTIONS.get(form.get("name", ""))
    if kind is None:
        raise ActionError("name", "there is no such action")
    values = {
        field: _typed(form[field], info.annotation)
        for field, info in kind.model_fields.items()
        if field in form
    }
    try:
        return _ACTION.validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ActionError(str(problem["loc"][-1]), problem["msg"]) from None


def fields(action: Action) -> dict[str, str]:
    """The form fields that `parse` makes this action from."""
    return {
        field: {True: "true", False: "false"}.get(value, str(value))
        if isinstance(value, bool)
        else str(value)
        for field, value in action.model_dump().items()
    }


def _typed(text: str, kind: object) -> Any:
    """`text` as what a field wants; left as it is when it is not that, for pydantic to refuse."""
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    if kind in (int, float) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text):
        return float(text) if "." in text or kind is float else int(text)
    return text
