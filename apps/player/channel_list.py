"""The channels that the server has: fetched, and kept on the disk for when it is away."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from apps.common.channels import ChannelsView, ChannelView, ImposedView
from apps.common.files import write_whole

log = logging.getLogger(__name__)

MAX_LIST = 1024 * 1024
"""Bytes; 216 channels with names in 32 languages are a third of it."""

MAX_KNOWN = 1000


class ChannelList:
    """Where each channel is.

    Args:
        directory: the state directory; it exists.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "channels.json"
        self._urls: dict[str, str] = {}
        self._text = b""
        self.imposed: tuple[str, ...] = ()
        """Where the imposed videos are."""
        self.is_of_now = False
        """Whether the server has told it since the start."""
        try:
            self._learn(self._file.read_bytes())
        except FileNotFoundError:
            log.info("no channels are known yet")
        except (OSError, ValidationError) as error:
            log.warning("the channels kept cannot be read", extra={"error": str(error)})

    def url(self, media: str) -> str | None:
        """Where libvlc finds a channel, from the server alone; None: there is none of that id.

        One that the server has no more is still known until the next start: it may be in use.
        """
        return self._urls.get(media)

    def update(self, text: bytes) -> bool:
        """Take the server's answer; whether it is news, to be saved.

        Raises:
            ValidationError: it is no list of channels.
        """
        before = self._urls
        if text != self._text:
            self._learn(text)
        self.is_of_now = True
        return self._urls != before

    def save(self) -> None:
        """Keep it on the disk.

        Raises:
            OSError: it is not; what was kept before still is.
        """
        write_whole(self._file, self._text)

    def _learn(self, text: bytes) -> None:
        view = ChannelsView.model_validate_json(text)
        urls = self._urls if len(self._urls) < MAX_KNOWN else {}
        everything: tuple[ChannelView | ImposedView, ...] = (*view.channels, *view.imposed)
        for one in everything:
            urls = urls | {one.id: f"rtp://{view.source}@{one.group}:{one.port}"}
        self._text, self._urls = text, urls
        self.imposed = tuple(urls[one.id] for one in view.imposed)
