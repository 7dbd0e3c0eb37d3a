"""What Yosys is told about the chip between reading it and synthesising it."""

from __future__ import annotations


def preparation(family: str, chip: str) -> list[str]:
    """Yosys commands for the RTLIL of a design that holds the chip.

    Parameters
    ----------
    family
        ``"ice40"`` or ``"ecp5"``.
    chip
        Name of the chip's module, for example ``"board.chip"``.
    """
    commands = [
        # No reader ever looks at what it read from a word in the cycle in which that word is written; with memories
        # that garble it (testbench/collisions.py) nothing changes. Left to itself, Yosys keeps the old word with
        # comparators and registers beside each block RAM.
        # (Ports that pass on what is written, as those of pending arrivals, stay as they are.)
        "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:TRANSPARENCY_MASK=1'0 %i",
    ]
    if family == "ice40":
        # Single-port RAM has no initial contents: a host that loads a network writes every weight.
        weights = f"{chip}.synapses.weights"
        commands += [f'setattr -set ram_style "huge" {weights}/m:*', f"delete {weights}/t:$meminit_v2"]
    return commands
