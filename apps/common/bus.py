"""The event bus: topics on Redis, each with its last value kept.

A topic is a piece of live state (``pa_audio/state``); what matters is its newest value. So a
value that was not sent yet is replaced by a newer one, nothing ever waits for Redis, and
after Redis comes back every topic of this process is sent again. While Redis is away
`trouble` says so, and the app works on.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import redis
from pydantic import BaseModel, ValidationError
from redis.connection import Connection

from apps.common.backoff import BackOff

log = logging.getLogger(__name__)

KEY = "ife:"
"""What every key and channel of ours begins with."""

MAX_TOPICS = 10_000
MAX_VALUE = 256 * 1024
TIMEOUT = 1.0
RETRY_FIRST = 0.1
RETRY_MAX = 2.0

M = TypeVar("M", bound=BaseModel)

Callback = Callable[[str, Any], None]
"""Called with the topic and its value (parsed JSON; None when there is none)."""


class Bus:
    """A connection to the bus that mends itself. Start it, publish, subscribe, close it.

    Args:
        url: of Redis, ``unix:///run/ife/redis/redis.sock``.
    """

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=None,
            # The pool replaces a dead connection without a word.
            redis_connect_func=self._on_connect,
        )
        self._wake = threading.Condition()
        self._values: dict[str, str] = {}
        self._unsent: dict[str, None] = {}
        self._closing = False
        self._trouble: str | None = "not connected yet"
        self._threads: list[threading.Thread] = []

    @property
    def trouble(self) -> str | None:
        """None while Redis answers, else what it said last."""
        return self._trouble

    def start(self) -> None:
        """Connect in the background."""
        self._run(self._publisher, "bus-publisher")

    def close(self) -> None:
        """Stop; values that were not sent are dropped."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=3 * TIMEOUT)
        self._redis.close()

    def publish(self, topic: str, value: BaseModel | dict[str, Any]) -> None:
        """Make `value` the topic's newest. Returns at once.

        Raises:
            ValueError: the value is over 256 KiB, or this process has over 10,000 topics.
        """
        text = value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value)
        if len(text) > MAX_VALUE:
            raise ValueError(f"{topic}: a value of {len(text)} bytes is too large for the bus")
        with self._wake:
            if topic not in self._values and len(self._values) >= MAX_TOPICS:
                raise ValueError(f"{topic}: one topic too many for one process")
            self._values[topic] = text
            self._unsent[topic] = None
            self._wake.notify_all()

    def subscribe(self, topics: Iterable[str], callback: Callback) -> None:
        """Call back with each topic's last value, then with each new one.

        The callback runs in a thread of the bus. After Redis was away it is called with the
        last values again.
        """
        wanted = list(topics)
        self._run(lambda: self._subscriber(wanted, callback), "bus-subscriber")

    def _run(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _wait(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._closing, timeout=seconds)

    def _lost(self, error: Exception) -> None:
        if self._trouble is None:
            log.warning("Redis is away, working on without it", extra={"error": str(error)})
        self._trouble = str(error)

    def _found(self) -> None:
        if self._trouble is not None:
            log.info("Redis is there")
        self._trouble = None

    def _on_connect(self, connection: Connection) -> None:
        """Greet Redis as usual, then send all again: it may be a new one, and empty."""
        connection.on_connect()
        self._send_all()

    def _send_all(self) -> None:
        with self._wake:
            self._unsent = dict.fromkeys(self._values)
            self._wake.notify_all()

    def _publisher(self) -> None:
        back_off = BackOff(RETRY_FIRST, RETRY_MAX)
        while not self._closing:
            try:
                self._redis.ping()
                self._send_all()
                self._found()
                back_off.reset()
                self._publish_until_closed()
            except redis.RedisError as error:
                self._lost(error)
                self._wait(back_off.delay())

    def _publish_until_closed(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or self._unsent, timeout=TIMEOUT)
                if self._closing:
                    return
                batch = {topic: self._values[topic] for topic in self._unsent}
                self._unsent = {}
            if not batch:
                self._redis.ping()
                continue
            with self._redis.pipeline(transaction=True) as pipeline:
                for topic, text in batch.items():
                    pipeline.set(KEY + topic, text)
                    pipeline.publish(KEY + topic, text)
                pipeline.execute()

    def _subscriber(self, topics: list[str], callback: Callback) -> None:
        back_off = BackOff(RETRY_FIRST, RETRY_MAX)
        keys = [KEY + topic for topic in topics]
        while not self._closing:
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    # Subscribed before read, so that nothing falls between the two.
                    pubsub.subscribe(*keys)
                    for topic, text in zip(topics, self._redis.mget(keys), strict=True):
                        _deliver(callback, topic, text)
                    back_off.reset()
                    while not self._closing:
                        message = pubsub.get_message(timeout=TIMEOUT)
                        if message:
                            topic = message["channel"].decode().removeprefix(KEY)
                            _deliver(callback, topic, message["data"])
            except redis.RedisError as error:
                log.debug("subscription lost", extra={"error": str(error)})
                self._wait(back_off.delay())


def _deliver(callback: Callback, topic: str, text: str | bytes | None) -> None:
    try:
        callback(topic, None if text is None else json.loads(text))
    except Exception:
        log.exception("a subscriber failed", extra={"topic": topic})


class Followed(Generic[M]):
    """The newest value of one topic, as a model.

    Args:
        good_for: seconds after which a value that was not sent again is believed no more, for a
            topic that its app sends regularly: the app may have died and left its last word.
        on_value: called with each value that comes, in a thread of the bus.
    """

    def __init__(
        self,
        bus: Bus,
        topic: str,
        model: type[M],
        good_for: float = math.inf,
        on_value: Callable[[M | None], None] = lambda _: None,
    ) -> None:
        self._bus = bus
        self._model = model
        self._good_for = good_for
        self._on_value = on_value
        self._last: tuple[float, M] | None = None
        bus.subscribe([topic], self._receive)

    @property
    def value(self) -> M | None:
        """None when there is none, it is not understood or too old, or the bus is away."""
        last = self._last
        if last is None or self._bus.trouble or time.monotonic() - last[0] > self._good_for:
            return None
        return last[1]

    def _receive(self, topic: str, value: Any) -> None:
        try:
            model = None if value is None else self._model.model_validate(value)
        except ValidationError as error:
            model = None
            log.warning("not understood", extra={"topic": topic, "error": str(error)})
        self._last = None if model is None else (time.monotonic(), model)
        self._on_value(model)
