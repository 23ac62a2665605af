"""The seats of a cabin layout, for Ansible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from apps.common.layout import LayoutError, load

DOCUMENTATION = """
name: cabin_seats
author: The ife authors
short_description: The seats of a cabin layout
description: Reads and checks a cabin layout, and gives the names of its seats.
options:
  _terms:
    description: The layout's path, a file as in inventory/layouts.
    required: true
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('cabin_seats', 'inventory/layouts/a330-300.yml') }}"
"""

RETURN = """
_list:
  description: One list, of the names of all the seats, such as 12C.
  type: list
  elements: list
"""


class LookupModule(LookupBase):
    """``lookup('cabin_seats', path)``."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[list[str]]:
        """One list of seats a layout.

        Raises:
            AnsibleLookupError: a layout cannot be read or is wrong, with each line that is.
        """
        try:
            return [list(load(Path(term)).seats) for term in terms]
        except (LayoutError, OSError) as error:
            raise AnsibleLookupError(str(error)) from error
