"""What the manuals say is what the code does."""

from __future__ import annotations

import pytest

from rtl.config import ChipConfig
from rtl.docs import FILE, markdown
from rtl.registers import Opcode, Status, regions, registers


def test_register_manual_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == markdown(), "run `python -m rtl.docs` and commit docs/registers.md"


@pytest.mark.parametrize("cfg", [ChipConfig((3, 2)), ChipConfig((9, 8, 7, 2), lanes=4, die_tables=False)])
def test_register_manual_names_every_register_region_opcode_and_status(cfg: ChipConfig) -> None:
    text = markdown(cfg)
    for register in registers(cfg):
        if not register.name.startswith(("L1_", "L2_")):  # the manual shows one layer
            assert f"| {register.name} | `0x{register.offset:02x}` |" in text
    for name in [region.name for region in regions(cfg)] + [code.name for code in (*Opcode, *Status)]:
        assert f"| {name} |" in text
