"""Everything the host raises on purpose.

A :class:`UserError` is something to put right in the call or its data; its message is one sentence that names the
value and what is allowed. Other :class:`SpikeloopError` mean that the chip or the link misbehaved.
"""

from __future__ import annotations

from typing import Any


class SpikeloopError(Exception):
    """Base of all errors raised by the host."""


class UserError(SpikeloopError, ValueError):
    """A wrong argument, option or file."""


class NetworkError(UserError):
    """A network that is no network, does not fit the chip, or a file that holds none."""


class NirError(UserError):
    """A NIR graph that no chip of the configuration can hold, or a file that holds none."""

    report: Any = None
    """:class:`host.nir_io.ConversionReport` as far as the conversion got; ``None``: there was nothing to convert."""


class EventsError(UserError):
    """Input events that no chip could take."""


class DieError(UserError):
    """A die that cannot be drawn or does not fit the chip."""


class BackendError(UserError):
    """A backend that does not exist or cannot be used here."""


class LinkLost(BackendError):
    """The line to a chip fell silent or its port vanished; frames under way have been carried out, in part or
    not at all. The host that begins anew writes everything again."""


class ChipMismatch(UserError):
    """The chip at the other end is not the one the configuration describes."""


class ChipError(SpikeloopError):
    """The chip refused a frame; the message gives opcode, address and status."""


class LinkError(SpikeloopError):
    """Words came back that are no answers: wrong CRC, number or length."""
