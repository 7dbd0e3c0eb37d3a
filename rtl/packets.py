"""Packets of the serial link (``docs/serial.md``), described once for its hardware, its golden twin and the host.

It holds data only: no Amaranth, no host code.
"""

from __future__ import annotations

from enum import IntFlag


class Flag(IntFlag):
    """Byte 0 of a packet's body."""

    DATA = 1
    """The payload is words of the stream."""
    LAST = 2
    """The last word of the payload has the link's `last` mark."""
    RESEND = 4
    """Everything from `next` on is to be sent again."""
    HELLO = 8
    """To the chip: begin anew. From the chip: greeting."""
    BUSY = 16
    """From the chip: it works on a frame."""


SERIAL_MAGIC = 0x53504B55
"""Second word of a greeting: the letters ``SPKU``."""

SERIAL_VERSION = 1

PACKET_WORDS = 16
"""Longest payload."""

HEADER_BYTES = 4
"""Flags, sequence, next, drained."""

EMPTY_BODY = HEADER_BYTES + 4
"""Bytes of a body without payload: header and CRC."""

LONGEST_BODY = EMPTY_BODY + 4 * PACKET_WORDS
