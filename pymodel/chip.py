"""The whole chip: frames in, frames out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pymodel import plane
from pymodel.link import Frames, answers, split
from pymodel.sequencer import Control, Samples, Sequencer, Trace
from pymodel.synapses import LINK_MASK, Synapses
from rtl.config import ChipConfig
from rtl.registers import (
    LAYER_STRIDE,
    MODE_FIRE,
    MODE_FIRE_ONCE,
    MODE_GATE_AT_THRESHOLD,
    MODE_RESET,
    NOISE_KIND,
    NOISE_SHIFT,
    RECORD_GATE,
    RECORD_GRADIENT,
    RECORD_RASTER,
    REGION_SHIFT,
    REGISTER_SPACE,
    Encoding,
    Opcode,
    Region,
    Status,
    regions,
    registers,
)

OFFSET_MASK = (1 << REGION_SHIFT) - 1
_NO_WORDS = np.zeros((1, 0), np.uint32)

Runner = Callable[[Control, Samples], NDArray[np.uint32]]


class GoldenChip:
    """Model of one chip after reset.

    Parameters
    ----------
    cfg
        The chip. All memories start at zero (binary weights at +1), registers at their reset values, die tables at
        neutral.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self._regions = regions(cfg)
        self._depth = {int(region): info.depth for region, info in self._regions.items()}
        self._values = np.zeros(REGISTER_SPACE, np.int64)
        self._masks = np.zeros(REGISTER_SPACE, np.int64)
        self._signed = np.zeros(REGISTER_SPACE, np.int64)
        self._refusal = np.full(REGISTER_SPACE, Status.BAD_ADDRESS, np.int64)
        self._offset = {}
        for register in registers(cfg):
            at = self._offset[register.name] = register.offset
            self._values[at] = register.reset if register.constant is None else register.constant
            self._masks[at] = (1 << register.bits) - 1
            self._signed[at] = 1 << (register.bits - 1) if register.signed else 0
            self._refusal[at] = Status.DENIED if register.readonly else Status.OK
        self._synapses = Synapses(cfg)
        self._sequencer = Sequencer(cfg, self._synapses)
        self._pending = np.zeros(0, np.uint64)

    def exchange(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Send link words to the chip and take all its answers.

        Parameters
        ----------
        words
            uint64; bits 31..0 the word, bit 32 the `last` mark. An unfinished frame is kept for the next call.

        Returns
        -------
        uint64, words of the answers, marked alike.
        """
        return self._exchange(words, self._sequencer.run)

    def trace(self, words: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], list[Trace]]:
        """Like :meth:`exchange`, and the inside of every sample that was run, in order (slow; for lockstep checks)."""
        traces: list[Trace] = []

        def run(control: Control, samples: Samples) -> NDArray[np.uint32]:
            out, inside = self._sequencer.trace(control, samples)
            traces.extend(inside)
            return out

        return self._exchange(words, run), traces

    def close(self) -> None:
        """Nothing to release; there to match the simulator."""

    # ---- frames ------------------------------------------------------------------------------------------------

    def _exchange(self, words: NDArray[np.uint64], run: Runner) -> NDArray[np.uint64]:
        stream = np.concatenate([self._pending, words]) if len(self._pending) else np.asarray(words, np.uint64)
        frames, rest = split(stream, self.cfg.link_depth)
        self._pending = rest.copy()
        for opcode, known in ((Opcode.LEARN, self.cfg.learning), (Opcode.PLANE, self.cfg.binary_weights)):
            if not known:
                frames.status[(frames.opcode == opcode) & (frames.status == Status.OK)] = Status.BAD_OPCODE
        # Successive RUN frames form one batch, so do successive LEARN frames; everything else is handled alone.
        is_sample = ((frames.opcode == Opcode.RUN) | (frames.opcode == Opcode.LEARN)) & (frames.status == Status.OK)
        alike = is_sample[1:] & is_sample[:-1] & (frames.opcode[1:] == frames.opcode[:-1])
        bounds = [0, *(np.flatnonzero(~alike) + 1).tolist(), len(is_sample)] if len(is_sample) else []
        result = [
            self._sample_frames(frames, a, b, run) if is_sample[a] else self._frame(frames, a)
            for a, b in pairwise(bounds)
        ]
        return np.concatenate(result) if result else np.zeros(0, np.uint64)

    def _sample_frames(self, frames: Frames, begin: int, end: int, run: Runner) -> NDArray[np.uint64]:
        control = self._control()
        part = slice(begin, end)
        learn = int(frames.opcode[begin]) == Opcode.LEARN
        starts = frames.start[part] + 2 + learn
        lengths = frames.stop[part] - frames.start[part] - 3 - learn
        labels = frames.words[starts - 1].astype(np.int64)
        status = np.full(end - begin, Status.OK, np.int64)
        if learn:
            status[labels >= self.cfg.n_out] = Status.BAD_LABEL
        fits = lengths == self.cfg.pixel_words if control.encoding < Encoding.EVENTS else lengths >= 0
        status[~fits] = Status.BAD_LENGTH
        good = status == Status.OK
        payload = run(
            control,
            Samples(frames.words, starts[good], lengths[good], frames.address[part][good], labels[good], learn),
        )
        opcode, tag = frames.opcode[part], frames.tag[part]
        if good.all():
            return answers(opcode, tag, status, payload)
        parts, row = [], 0
        for k, ok in enumerate(good.tolist()):
            one = slice(k, k + 1)
            parts.append(answers(opcode[one], tag[one], status[one], payload[row : row + 1] if ok else _NO_WORDS))
            row += ok
        return np.concatenate(parts)

    def _frame(self, frames: Frames, index: int) -> NDArray[np.uint64]:
        status, data = int(frames.status[index]), _NO_WORDS
        if status == Status.OK:
            address = int(frames.address[index])
            payload = frames.words[frames.start[index] + 2 : frames.stop[index] - 1].astype(np.int64)
            match int(frames.opcode[index]):
                case Opcode.READ:
                    status, data = self._read(address, payload)
                case Opcode.WRITE:
                    status = self._write(address, payload)
                case Opcode.SCATTER:
                    status = self._scatter(payload)
                case Opcode.PLANE:
                    status = self._plane(address, payload)
        part = slice(index, index + 1)
        return answers(frames.opcode[part], frames.tag[part], np.array([status], np.int64), data)

    def _read(self, address: int, payload: NDArray[np.int64]) -> tuple[int, NDArray[np.uint32]]:
        if len(payload) != 1:
            return Status.BAD_LENGTH, _NO_WORDS
        region, offset, count = address >> REGION_SHIFT, address & OFFSET_MASK, int(payload[0])
        if offset + count > self._depth.get(region, -1):
            return Status.BAD_ADDRESS, _NO_WORDS
        info = self._regions[Region(region)]
        if not info.readable:
            return Status.DENIED, _NO_WORDS
        if region == Region.REGISTERS:
            data = self._values[offset : offset + count] & LINK_MASK
        else:
            data = self._synapses.read(info.region, offset, count)
        return Status.OK, data.astype(np.uint32)[None]

    def _write(self, address: int, payload: NDArray[np.int64]) -> int:
        region, offset = address >> REGION_SHIFT, address & OFFSET_MASK
        if region not in self._depth or (len(payload) and offset + len(payload) > self._depth[region]):
            return Status.BAD_ADDRESS
        if not self._regions[Region(region)].writable:
            return Status.DENIED
        offsets = np.arange(offset, offset + len(payload))
        if region == Region.REGISTERS:
            refusals = self._refusal[offsets] if len(offsets) else offsets
            if refusals.any():
                return int(refusals[np.flatnonzero(refusals)[0]])
        self._store(region, offsets, payload)
        return Status.OK

    def _scatter(self, payload: NDArray[np.int64]) -> int:
        if len(payload) % 2:
            return Status.BAD_LENGTH
        region, offset, values = payload[0::2] >> REGION_SHIFT, payload[0::2] & OFFSET_MASK, payload[1::2]
        refusal = np.full(len(region), Status.BAD_ADDRESS, np.int64)
        for known, info in self._regions.items():
            inside = (region == known) & (offset < info.depth)
            refusal[inside] = Status.OK if info.writable else Status.DENIED
            if known == Region.REGISTERS:
                refusal[inside] = self._refusal[offset[inside]]
        if refusal.any():
            return int(refusal[np.flatnonzero(refusal)[0]])
        # In order, because WEIGHT and WEIGHTS are two views of one memory.
        edges = (np.flatnonzero(region[1:] != region[:-1]) + 1).tolist()
        for a, b in zip([0, *edges], [*edges, len(region)], strict=True):
            if b > a:
                self._store(int(region[a]), offset[a:b], values[a:b])
        return Status.OK

    def _plane(self, row: int, payload: NDArray[np.int64]) -> int:
        if not plane.fits(self.cfg, row, len(payload)):
            return Status.BAD_ADDRESS
        self._synapses.write_plane(row, payload)
        return Status.OK

    def _store(self, region: int, offsets: NDArray[np.int64], values: NDArray[np.int64]) -> None:
        if region == Region.REGISTERS:
            sign = self._signed[offsets]
            self._values[offsets] = ((values & self._masks[offsets]) ^ sign) - sign
        else:
            self._synapses.write(Region(region), offsets, values)

    # ---- registers ---------------------------------------------------------------------------------------------

    def _control(self) -> Control:
        value = self._values
        layers = np.arange(len(self.cfg.neuron_layers))

        def layer(name: str) -> NDArray[np.int64]:
            offset = self._offset.get(f"L0_{name}")
            return np.zeros_like(layers) if offset is None else value[offset + LAYER_STRIDE * layers]

        mode, noise = layer("MODE"), layer("NOISE")
        record = int(value[self._offset["RECORD"]])
        enable = int(value[self._offset["LEARN_ENABLE"]]) if self.cfg.learning else 0
        return Control(
            steps=max(1, int(value[self._offset["STEPS"]])),
            encoding=int(value[self._offset["ENCODING"]]),
            raster=bool(record >> RECORD_RASTER & 1),
            gate=bool(record >> RECORD_GATE & 1),
            gradient=bool(record >> RECORD_GRADIENT & 1),
            early_end=bool(value[self._offset["EARLY_END"]]),
            brief=bool(value[self._offset["BRIEF"]]),
            shift=layer("SHIFT"),
            decay_syn=layer("DECAY_SYN"),
            decay_mem=layer("DECAY_MEM"),
            reset=mode >> MODE_RESET & 3,
            reset_amount=layer("RESET_AMOUNT"),
            refractory=layer("REFRACTORY"),
            fire_once=mode >> MODE_FIRE_ONCE & 1,
            gate_at_threshold=mode >> MODE_GATE_AT_THRESHOLD & 1,
            gate_centre=layer("GATE_CENTRE"),
            gate_window=layer("GATE_WINDOW"),
            fire=mode >> MODE_FIRE & 3,
            fire_bits=layer("FIRE_BITS"),
            noise_shift=noise >> NOISE_SHIFT & 15,
            noise_kind=noise >> NOISE_KIND & 3,
            gradient_bits=layer("GRADIENT_BITS"),
            rate=layer("RATE"),
            forward_shift=layer("FORWARD_SHIFT"),
            enabled=enable >> layers & 1,
        )
