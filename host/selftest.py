"""Is the chip at the other end what it should be? Every check asks it and the golden model the same and compares."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.backends import Backend, is_serial, open_backend
from host.chip import RECORDS, Chip, Output
from host.die import Die
from host.errors import BackendError, ChipError, ChipMismatch, LinkError
from host.events import Events
from host.link import Request, frame, take
from host.network import Network
from host.serial import SerialBackend, Traffic
from pymodel import GoldenChip
from rtl.config import MAGIC, VERSION, ChipConfig, ConfigError
from rtl.registers import (
    RATE_ONE,
    REGION_SHIFT,
    REGISTER_SPACE,
    SIZE_OFFSET,
    Opcode,
    Region,
    RegionInfo,
    global_registers,
    regions,
    registers,
)

ROUND_TRIPS = 50
PATTERNS = (0xFFFFFFFF, 0x00000000, 0xAAAAAAAA, 0x55555555)
"""Written to every register, before random values that tell them from each other."""

FEW_WORDS = 1024
MOST_WORDS = 1 << 17
"""Words of a region that are written at least, at most 64 at each end among them, and in one go without --quick."""

SINGLES = 64
STEPS = 20
SAMPLES = 32
SPEED_SECONDS = 1.0

MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Check:
    """One line of the result: what was checked, whether chip and model agree, and figures or the first difference."""

    name: str
    ok: bool
    found: str


class _Differs(Exception):
    """Chip and model disagree: the message says where and what each of them says."""


def read_config(backend: Backend) -> ChipConfig:
    """The configuration of the chip behind `backend`, as its registers tell.

    Raises
    ------
    ChipMismatch
        If they are not those of a chip that this version knows.
    """
    request = _read(Region.REGISTERS, 0, REGISTER_SPACE)
    values = take(backend.exchange(request.words), request, 0)[0][0].tolist()
    if values[:2] != [MAGIC, VERSION]:
        raise ChipMismatch(
            f"the registers MAGIC and VERSION hold 0x{values[0]:08X} and {values[1]}: must be 0x{MAGIC:X}, {VERSION}"
        )
    # Names and places of the others are the same for all chips; those of any chip will do.
    named = {register.name: values[register.offset] for register in global_registers(ChipConfig((1, 1)))}
    bits, layers = named["FEATURES"], values[SIZE_OFFSET : SIZE_OFFSET + named["LAYERS"]]
    try:
        cfg = ChipConfig(
            layers=tuple(layers),
            lanes=named["LANES"],
            state_bits=named["STATE_BITS"],
            die_tables=bool(bits & 1),
            trace=bool(bits & 2),
            learning=bool(bits & 4),
            axonal_delays=bool(bits & 8),
            bernoulli=not bits & 16,
            delay_slots=named["DELAY_SLOTS"],
            neuron_lanes=named["NEURON_LANES"] % named["LANES"],
            weight_bits=named["WEIGHT_BITS"],
            binary_weights=named["WEIGHT_BITS"] == 1,
        )
        return cfg if cfg.link_depth == named["LINK_DEPTH"] else replace(cfg, receive_words=named["LINK_DEPTH"])
    except (ConfigError, ArithmeticError) as error:
        raise ChipMismatch(f"the chip's registers describe no chip: {error}") from None


def selftest(
    backend: str | Backend, cfg: ChipConfig | None = None, *, quick: bool = False, seed: int = 0, **options: Any
) -> Iterator[Check]:
    """Check a chip from its link to its speed, one thing after the other; it then holds a network without distortion.

    Parameters
    ----------
    backend
        As for :class:`Chip`.
    cfg
        What the chip should be. Default: what its registers say it is; only for a chip at a serial port.
    quick
        Less of everything, and of large memories only the ends and some words between them.
    seed
        Of all that is random.
    **options
        For the backend.

    Yields
    ------
    Check
        In order, each when it is done.

    Raises
    ------
    UserError
        If there is no such chip: unknown backend, nobody at the port, another configuration; or if the link is lost.
    """
    if cfg is None and isinstance(backend, str) and not is_serial(backend):
        raise BackendError(f"backend = {backend!r}: needs a configuration, only a chip at a serial port knows its own")
    # A port is opened whatever the chip; only then can it be asked.
    opened, _ = open_backend(backend, cfg or ChipConfig((1, 1)), **options)
    try:
        yield from _Selftest(opened, cfg or read_config(opened), quick, seed).run()
    finally:
        opened.close()


def _read(region: Region, offset: int, count: int) -> Request:
    address = int(region) << REGION_SHIFT | offset
    words = frame(Opcode.READ, address, np.array([count], np.uint32))
    return Request(words, Opcode.READ, np.array([address], np.uint32), count)


class _Once:
    """A backend that nobody restarts: a chip that dies when it is tested has failed."""

    def __init__(self, backend: Backend) -> None:
        self.exchange = backend.exchange

    def close(self) -> None:
        """Nothing; the backend is closed by whoever opened it."""


class _Selftest:
    """Chip and model, both driven alike."""

    def __init__(self, backend: Backend, cfg: ChipConfig, quick: bool, seed: int) -> None:
        self.backend, self.cfg, self.quick = backend, cfg, quick
        self.model = GoldenChip(cfg)
        self.rng = np.random.default_rng(seed)
        self.chip, self.twin = Chip(cfg, _Once(backend)), Chip(cfg, self.model)

    def run(self) -> Iterator[Check]:
        """All checks that this chip has something for."""
        cfg, known = self.cfg, regions(self.cfg)
        checks: list[tuple[str, Callable[[], str]]] = [("link", self._link), ("registers", self._registers)]
        memories = [info for info in known.values() if info.readable and info.region != Region.REGISTERS]
        checks += [(f"memory {info.region.name}", partial(self._memory, info)) for info in memories]
        checks.append(("network", self._network))
        if cfg.die_tables:
            checks.append(("distorted network", partial(self._network, self._distorted())))
        if cfg.learning:
            checks.append(("learning", self._learning))
        checks.append(("speed", self._speed))
        if isinstance(self.backend, SerialBackend):
            checks.append(("line", partial(self._line, self.backend.traffic)))
        for name, check in checks:
            try:
                yield Check(name, True, check())
            except (_Differs, ChipError, LinkError) as failure:
                yield Check(name, False, str(failure))

    # ---- link and registers ------------------------------------------------------------------------------------

    def _link(self) -> str:
        request = _read(Region.REGISTERS, 0, 1)
        seconds = []
        for tag in range(ROUND_TRIPS):
            words = frame(Opcode.READ, 0, np.array([1], np.uint32), tag)
            started = time.perf_counter()
            found = self.backend.exchange(words)
            seconds.append(time.perf_counter() - started)
            self._same_words("an echo", found, self.model.exchange(words))
        spoiled = request.words ^ np.uint64(1)
        self._same_words("a frame with a wrong CRC", self.backend.exchange(spoiled), self.model.exchange(spoiled))
        text = f"round trip {1e3 * median(seconds):.2f} ms, at most {1e3 * max(seconds):.2f} ms"
        if isinstance(self.backend, SerialBackend):
            text += f"; {self.backend.baud} baud, chip's clock {self.backend.clock_hz / 1e6:g} MHz"
        return text

    def _registers(self) -> str:
        every = registers(self.cfg)
        named = {register.offset: f"register {register.name}" for register in every}
        free = [register for register in every if not register.readonly]
        self._compare(Region.REGISTERS, 0, REGISTER_SPACE, named)
        rounds: list[list[int]] = [[pattern] * len(free) for pattern in PATTERNS]
        rounds += [self.rng.integers(0, 1 << 32, len(free)).tolist() for _ in range(2)]
        rounds.append([register.reset & MASK for register in free])
        for values in rounds:
            self._scatter(Region.REGISTERS, [register.offset for register in free], values)
            self._compare(Region.REGISTERS, 0, REGISTER_SPACE, named)
        return f"{len(every) - len(free)} that say what the chip is, {len(free)} written and read {len(rounds)} times"

    # ---- memories ----------------------------------------------------------------------------------------------

    def _memory(self, info: RegionInfo) -> str:
        """Random words and their complements, then, where there are two views, single elements."""
        blocks = self._blocks(info.depth)
        words = [self.rng.integers(0, 1 << 32, count, dtype=np.uint32) for _, count in blocks]
        for flip in (np.uint32(0), np.uint32(MASK)):
            for (offset, _), block in zip(blocks, words, strict=True):
                self._write(info.region, offset, block ^ flip)
            for offset, count in blocks:
                self._compare(info.region, offset, count)
        written = sum(count for _, count in blocks)
        text = f"{written:,} of {info.depth:,} words" if written < info.depth else f"all {info.depth:,} words"
        view = {Region.WEIGHTS: Region.WEIGHT, Region.DELAYS: Region.DELAY}.get(info.region)
        if view in (known := regions(self.cfg)):
            per_word = known[view].depth // info.depth
            offset, count = blocks[-1]
            chosen = self.rng.choice(count * per_word, min(SINGLES, count * per_word), replace=False)
            chosen[0] = count * per_word - 1
            elements = np.unique(offset * per_word + chosen)
            self._scatter(view, elements.tolist(), self.rng.integers(0, 1 << 32, len(elements)).tolist())
            for offset, count in blocks:
                self._compare(info.region, offset, count)
            text += f", {len(elements)} elements one by one"
        return text

    def _blocks(self, depth: int) -> list[tuple[int, int]]:
        """Offsets and sizes of what is written: everything, or the ends and some blocks between them."""
        if depth <= (FEW_WORDS if self.quick else MOST_WORDS):
            return [(0, depth)]
        size = FEW_WORDS // 16
        inner = self.rng.choice(depth // size - 2, 14, replace=False) + 1
        return [(0, size), *((int(block) * size, size) for block in np.sort(inner)), (depth - size, size)]

    # ---- networks ----------------------------------------------------------------------------------------------

    def _distorted(self) -> Die:
        jitter = 1.0 if self.cfg.delay_slots else 0.0
        return Die(1, 1.0, noise=100.0, threshold_noise=0.05, jitter=jitter)

    def _network(self, die: Die | None = None) -> str:
        """A random network, with every way of coding inputs; of some samples all spikes."""
        self._begin(die)
        network = self._draw()
        n, spikes, cycles = SAMPLES // (4 if self.quick else 1), 0, 0
        images = self.rng.integers(0, 256, (n, self.cfg.n_in), np.uint8)
        events = self._events(n)
        for chip in (self.twin, self.chip):
            chip.load(network)
        for x, encoding in ((images, "rate"), (images, self._random_code()), (events, "rate")):
            for record in ((), ("raster", "gate")):
                expected, found = (
                    chip.run(x, STEPS, seed=5, encoding=encoding, record=record) for chip in (self.twin, self.chip)
                )
                self._same_output(found, expected)
                spikes += int(sum(counts.sum() for counts in found.counts))
                cycles += int(found.cycles.sum())
        return f"{6 * n} samples, {spikes:,} spikes, {cycles:,} clock cycles"

    def _learning(self) -> str:
        self._begin(None)
        layers = len(self.cfg.shapes)
        half = min(8, self.cfg.weight_range[1])
        network = Network(
            weights=[self.rng.integers(-half, half + 1, shape) for shape in self.cfg.shapes],
            thresholds=0, decay_syn=4096, decay_mem=4096, shift=0, reset="none", gate_centre=16, gate_window=32,
            fire=("stochastic",) * (layers - 1) + ("winner",), fire_bits=5, noise="flat", noise_shift=3,
            gradient_bits=3, rate=RATE_ONE // 2,
        )  # fmt: skip
        n = SAMPLES // (4 if self.quick else 1)
        images = self.rng.integers(0, 256, (n, self.cfg.n_in), np.uint8)
        labels = self.rng.integers(0, self.cfg.n_out, n)
        outputs = []
        for chip in (self.twin, self.chip):
            chip.load(network)
            outputs.append(
                chip.learn(images, labels, STEPS, seed=6, encoding=self._random_code(), record=tuple(RECORDS))
            )
        expected, found = outputs
        self._same_output(found, expected)
        changed = 0
        for layer, (ours, theirs) in enumerate(zip(self.chip.weights(), self.twin.weights(), strict=True)):
            self._same_array(f"weights after it, layer {layer}", ours, theirs)
            changed += int((theirs != network.weights[layer]).sum())
        return f"{n} samples, {changed:,} of {self.cfg.n_synapses:,} weights changed"

    def _begin(self, die: Die | None) -> None:
        """Both sides anew behind the same backends, because what they hold was written past them."""
        chosen = die if die is not None or not self.cfg.die_tables else Die()
        self.chip, self.twin = Chip(self.cfg, _Once(self.backend), chosen), Chip(self.cfg, self.model, chosen)

    def _random_code(self) -> str:
        return "bernoulli" if self.cfg.bernoulli else "rate"

    def _draw(self) -> Network:
        """A network whose neurons spike some of the time."""
        cfg, rng = self.cfg, self.rng
        low, high = cfg.weight_range
        layers = range(len(cfg.shapes))
        # Where currents and membranes are narrow, small ones must not decay to nothing.
        shift, decays = (4, (100, 2000)) if cfg.state_bits >= cfg.weight_bits + 12 else (0, (3000, 4097))
        weights = [
            rng.choice([-1, 1], shape) if cfg.binary_weights else rng.integers(low, high + 1, shape)
            for shape in cfg.shapes
        ]
        top = [int(min(cfg.state_range[1], max(4, (high << shift) * pre**0.5))) for pre in cfg.layers[:-1]]
        return Network(
            weights=weights,
            thresholds=[rng.integers(1, top[layer], cfg.neuron_layers[layer]) for layer in layers],
            biases=[rng.integers(-(high // 4), high + 1, size) for size in cfg.neuron_layers],
            decay_syn=[int(rng.integers(max(1000, decays[0]), 4097)) for _ in layers],
            decay_mem=[int(rng.integers(*decays)) for _ in layers],
            shift=shift,
            reset=[str(rng.choice(["none", "zero", "subtract"])) for _ in layers],
            refractory=[int(rng.integers(0, 3)) for _ in layers],
            delays=self._delays(),
        )

    def _delays(self) -> Any:
        cfg = self.cfg
        if not cfg.delay_slots:
            return None
        sizes = [(pre, 1 if cfg.axonal_delays else post) for pre, post in cfg.shapes]
        return [self.rng.integers(0, min(cfg.delay_slots, STEPS), size) for size in sizes]

    def _events(self, n: int) -> Events:
        most = min(self.cfg.n_in * STEPS, self.cfg.max_payload - 1, 40)
        chosen = [self.rng.choice(self.cfg.n_in * STEPS, most, replace=False) for _ in range(n)]
        return Events([one // self.cfg.n_in for one in chosen], [one % self.cfg.n_in for one in chosen])

    # ---- speed -------------------------------------------------------------------------------------------------

    def _speed(self) -> str:
        """Larger and larger batches until one takes long enough."""
        self._begin(None)
        self.chip.load(self._draw())
        n, seconds = 8, 0.0
        while True:
            images = self.rng.integers(0, 256, (n, self.cfg.n_in), np.uint8)
            encoded = self.chip.encode(images, STEPS, seed=7)
            started = time.perf_counter()
            cycles = int(self.chip.run_encoded(encoded).cycles.sum())
            seconds = time.perf_counter() - started
            if seconds > SPEED_SECONDS / (8 if self.quick else 2) or n >= 1 << 14:
                break
            n *= 2
        sent = sum(len(request.words) for request in encoded.requests)
        rate = (sent + n * (encoded.answer_length + 2)) * 4 / seconds
        figures = f"{n / seconds:,.0f} samples/s of {STEPS} steps, {rate / 1e3:,.1f} kB/s"
        return f"{figures}, {cycles / seconds:,.0f} clock cycles/s"

    @staticmethod
    def _line(traffic: Traffic) -> str:
        return (
            f"{traffic.packets_damaged:,} of {traffic.packets_received:,} packets received were damaged; "
            f"{traffic.packets_repeated:,} of {traffic.packets_sent:,} sent were repeated"
        )

    # ---- both sides --------------------------------------------------------------------------------------------

    def _write(self, region: Region, offset: int, values: NDArray[np.uint32]) -> None:
        longest = self.cfg.max_payload
        for begin in range(0, len(values), longest):
            address = int(region) << REGION_SHIFT | offset + begin
            self._post(Opcode.WRITE, address, values[begin : begin + longest])

    def _scatter(self, region: Region, offsets: list[int], values: list[int]) -> None:
        pairs = np.array([[int(region) << REGION_SHIFT | offset for offset in offsets], values], np.uint32).T
        longest = self.cfg.max_payload // 2
        for begin in range(0, len(pairs), longest):
            self._post(Opcode.SCATTER, int(pairs[begin, 0]), pairs[begin : begin + longest].ravel())

    def _post(self, opcode: Opcode, address: int, payload: NDArray[np.uint32]) -> None:
        words = frame(opcode, address if opcode == Opcode.WRITE else 0, payload)
        request = Request(words, opcode, np.array([address], np.uint32), 0)
        for side in (self.backend, self.model):
            take(side.exchange(words), request, 0)

    def _compare(self, region: Region, offset: int, count: int, named: dict[int, str] | None = None) -> None:
        """Read words from both sides."""
        request = _read(region, offset, count)
        found, expected = (take(side.exchange(request.words), request, 0)[0][0] for side in (self.backend, self.model))
        wrong = np.flatnonzero(found != expected)
        if len(wrong):
            first = int(wrong[0])
            where = (named or {}).get(offset + first, f"{region.name} + 0x{offset + first:X}")
            raise _Differs(_said(where, f"0x{found[first]:08X}", f"0x{expected[first]:08X}", len(wrong), "words"))

    @staticmethod
    def _same_words(what: str, found: NDArray[np.uint64], expected: NDArray[np.uint64]) -> None:
        if not np.array_equal(found, expected):
            ours, theirs = (" ".join(f"{word:09X}" for word in words[:8].tolist()) for words in (found, expected))
            raise _Differs(f"{what}: the chip said {ours or 'nothing'}, the model says {theirs}")

    def _same_output(self, found: Output, expected: Output) -> None:
        for item in fields(Output):
            ours, theirs = getattr(found, item.name), getattr(expected, item.name)
            if isinstance(theirs, list):
                for layer, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                    self._same_array(f"{item.name}, layer {layer}", one, other)
            else:
                self._same_array(item.name, ours, theirs)

    @staticmethod
    def _same_array(what: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
        wrong = np.argwhere(found != expected)
        if len(wrong):
            at = tuple(wrong[0].tolist())
            where = f"{what}, at {list(at)}"
            raise _Differs(_said(where, str(found[at].item()), str(expected[at].item()), len(wrong), "values"))


def _said(where: str, chip: str, model: str, differences: int, of: str) -> str:
    more = f"; {differences:,} {of} differ" if differences > 1 else ""
    return f"{where}: the chip said {chip}, the model says {model}{more}"
