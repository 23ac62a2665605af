"""Lets Ansible find Mitogen's strategy wherever the virtual environment lies.

It keeps one Python running on each host instead of starting one for each task; see
docs/decisions/0011-provisioning-over-mitogen.md.
"""

from ansible_mitogen.plugins.strategy.mitogen_linear import StrategyModule

__all__ = ["StrategyModule"]
