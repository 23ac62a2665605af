"""Windows over the whole screen of the X server in `DISPLAY`, for libvlc to show pictures in.

libvlc's own become full screens only where a window manager makes them so, and a seat has none.
"""

from __future__ import annotations

import xcffib
import xcffib.xproto as x
from xcffib.xproto import CW

from apps.common.settings import SettingsError


class Display:
    """A connection to the X server.

    Raises:
        SettingsError: there is none.
    """

    def __init__(self) -> None:
        try:
            self._connection = xcffib.connect()
        except xcffib.ConnectionException as error:
            raise SettingsError("no X server answers at DISPLAY") from error
        self._screen = self._connection.get_setup().roots[self._connection.pref_screen]
        self._cursor = self._make_no_cursor()

    def window(self) -> Window:
        """A new one, not to be seen yet."""
        number = self._connection.generate_id()
        self._connection.core.CreateWindow(
            x.WindowClass.CopyFromParent,
            number,
            self._screen.root,
            *(0, 0, self._screen.width_in_pixels, self._screen.height_in_pixels, 0),
            x.WindowClass.InputOutput,
            self._screen.root_visual,
            # Where there is a window manager, it is not asked.
            CW.BackPixel | CW.OverrideRedirect | CW.Cursor,
            [self._screen.black_pixel, 1, self._cursor],
        )
        self._connection.flush()
        return Window(self._connection, number)

    def _make_no_cursor(self) -> int:
        """One of which no pixel is seen: a seat is touched, not pointed at."""
        core = self._connection.core
        mask, pen, cursor = (int(self._connection.generate_id()) for _ in range(3))
        core.CreatePixmap(1, mask, self._screen.root, 1, 1)
        core.CreateGC(pen, mask, x.GC.Foreground, [0])
        core.PolyFillRectangle(mask, pen, 1, [x.RECTANGLE.synthetic(0, 0, 1, 1)])
        core.CreateCursor(cursor, mask, mask, *(0,) * 8)
        return cursor


class Window:
    """A window; `number` is what libvlc calls the XID."""

    def __init__(self, connection: xcffib.Connection, number: int) -> None:
        self._connection = connection
        self.number = number

    def show(self) -> None:
        """Before all others."""
        core = self._connection.core
        core.ConfigureWindow(self.number, x.ConfigWindow.StackMode, [x.StackMode.Above])
        core.MapWindow(self.number)
        self._connection.flush()

    def hide(self) -> None:
        """What is behind it is seen."""
        self._connection.core.UnmapWindow(self.number)
        self._connection.flush()
