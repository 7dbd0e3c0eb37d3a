"""Delays and samples that end early, as the driver sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host import Chip, Network
from host.errors import NetworkError, UserError
from rtl.config import ChipConfig
from rtl.registers import Opcode, Region

CFG = ChipConfig((10, 7, 3), lanes=4, delay_slots=20)
AXONAL = ChipConfig((10, 7, 3), lanes=4, delay_slots=20, axonal_delays=True)


def random_network(cfg: ChipConfig, seed: int = 0, **changes: Any) -> Network:
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "weights": [rng.integers(-60, 128, shape) for shape in cfg.shapes],
        "thresholds": [rng.integers(500, 3000, size) for size in cfg.neuron_layers],
        "delays": [
            rng.integers(0, cfg.delay_slots, (n_pre, 1 if cfg.axonal_delays else n_post))
            for n_pre, n_post in cfg.shapes
        ],
    }
    return Network(**{**options, **changes})


def posted(chip: Chip) -> list[tuple[Region, int, list[int]]]:
    """Region, offset and words of every write to the delays that waits for the next exchange."""
    found = []
    for opcode, address, words in chip._posted:
        if opcode == Opcode.WRITE:
            found.append((Region(address >> 24), address & 0xFFFFFF, words.tolist()))
        else:
            pairs = words.reshape(-1, 2)
            found += [(Region(int(a) >> 24), int(a) & 0xFFFFFF, [int(word)]) for a, word in pairs]
    return [item for item in found if item[0] in (Region.DELAYS, Region.DELAY)]


def element(cfg: ChipConfig, layer: int, row: int, column: int) -> int:
    word = cfg.weight_base[layer] + row * cfg.words[layer] + column // cfg.lanes
    return word * cfg.lanes + column % cfg.lanes


@pytest.mark.parametrize("slots", [2, 3, 16, 17, 1024])
@pytest.mark.parametrize("lanes", [4, 16])
def test_delays_are_written_in_bulk_as_the_manual_says(slots: int, lanes: int) -> None:
    cfg = ChipConfig((10, 7, 3), lanes=lanes, delay_slots=slots)
    network = random_network(cfg)
    with Chip(cfg) as chip:
        chip.load(network)
        ((region, offset, words),) = posted(chip)
    assert (region, offset) == (Region.DELAYS, 0)
    k, bits = cfg.delays_per_link_word, cfg.delay_bits
    assert len(words) * k == cfg.delay_depth * lanes
    for layer, matrix in enumerate(network.delays):
        for (row, column), delay in np.ndenumerate(matrix):
            at = element(cfg, layer, row, column)
            assert words[at // k] >> at % k * bits & ((1 << bits) - 1) == delay


def test_axonal_delays_are_one_word_per_source() -> None:
    network = random_network(AXONAL)
    with Chip(AXONAL) as chip:
        chip.load(network)
        expected = np.concatenate([matrix[:, 0] for matrix in network.delays]).tolist()
        assert posted(chip) == [(Region.DELAYS, 0, expected)]


def test_only_delays_that_changed_are_sent() -> None:
    network = random_network(CFG)
    changed = network.replace(delays=[matrix.copy() for matrix in network.delays])
    changed.delays[0][3, 5] ^= 1
    changed.delays[1][6, 2] ^= 1
    with Chip(CFG) as chip:
        chip.load(network)
        chip._posted.clear()
        chip.load(network)
        assert not chip._posted
        chip.load(changed)
        assert posted(chip) == [
            (Region.DELAY, element(CFG, layer, *at), [int(changed.delays[layer][at])])
            for layer, at in ((0, (3, 5)), (1, (6, 2)))
        ]
        assert chip.network == changed
        chip._posted.clear()
        chip.load(random_network(CFG, seed=1, weights=network.weights))
        assert [item[0] for item in posted(chip)] == [Region.DELAYS]
    network = random_network(AXONAL)
    with Chip(AXONAL) as chip:
        chip.load(network)
        chip._posted.clear()
        network.delays[1][4] ^= 1
        chip.load(network)
        assert posted(chip) == [(Region.DELAYS, 10 + 4, [int(network.delays[1][4, 0])])]


def test_chips_without_delays_get_none() -> None:
    cfg = ChipConfig((10, 7, 3), lanes=4)
    with Chip(cfg) as chip:
        chip.load(random_network(CFG, delays=None))
        assert posted(chip) == []
        assert [matrix.tolist() for matrix in chip.delays()] == [np.zeros(shape).tolist() for shape in cfg.shapes]
        with pytest.raises(NetworkError, match=r"needs a chip with delays, ChipConfig\(delay_slots=20\)"):
            chip.load(random_network(CFG, delays=[19, 0]))
        with pytest.raises(UserError, match="early_end = 1: must be True or False"):
            chip.run(np.zeros((1, 10), int), 3, early_end=1)  # type: ignore[arg-type]
        assert chip.network == random_network(CFG, delays=None)
    with pytest.raises(UserError, match="the chip is closed"):
        chip.delays()
