"""Writing parameters to the chip, only what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from host.trainers.base import IntArray, Neuron, ParameterMap, make_network

if TYPE_CHECKING:
    from host.chip import Chip


class ParameterPort:
    """Moves a chip's network along with a parameter vector.

    Writes are posted (:meth:`host.chip.Chip.update`): they travel with the next batch of samples, and entries that the
    chip holds already are not sent. A rejected proposal is therefore undone for free, together with the next one.
    """

    def __init__(self, chip: Chip, map_: ParameterMap, neuron: Neuron) -> None:
        self.chip, self.map, self.neuron = chip, map_, neuron
        # Where each parameter lives: slot 2*l is the weight matrix of layer l, slot 2*l + 1 its biases.
        slots, rows, columns = [], [], []
        for layer, (pre, post) in enumerate(map_.cfg.shapes):
            grid = np.indices((pre, post)).reshape(2, -1)
            slots += [np.full(pre * post, 2 * layer), np.full(post, 2 * layer + 1)]
            rows += [grid[0], np.zeros(post, dtype=np.int64)]
            columns += [grid[1], np.arange(post)]
        self._slot: NDArray[np.int64] = np.concatenate(slots)
        self._row: NDArray[np.int64] = np.concatenate(rows)
        self._column: NDArray[np.int64] = np.concatenate(columns)

    def load(self, vector: IntArray) -> None:
        """Load the whole network."""
        self.chip.load(make_network(self.map.cfg, self.map, vector, self.neuron))

    def change(self, vector: IntArray, touched: IntArray) -> None:
        """Bring the entries `touched` of the chip to their values in `vector`."""
        slots = self._slot[touched]
        for slot in set(slots.tolist()):
            entries = touched[slots == slot]
            layer, is_bias = divmod(slot, 2)
            if is_bias:
                self.chip.update_neurons(layer, self._column[entries], biases=vector[entries])
            else:
                self.chip.update(layer, self._row[entries], self._column[entries], vector[entries])
