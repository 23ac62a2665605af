"""The process that reads one crew disk, and serves it; `python -m apps.usb_lockdown.reader`.

It gets two open files, the disk and a socket that listens, and needs nothing else of the machine.
It imports neither Flask nor pydantic, so that it is small and there at once.
"""
