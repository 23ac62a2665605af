"""Seat control: every seat's status in, the crew's commands out."""
