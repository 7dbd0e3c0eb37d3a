"""The chip's address space, described once.

The hardware, the golden model, the host's map and the table in ``docs/registers.md`` are all made from this module.
It holds data only: no Amaranth, no host code.

An address on the link has 32 bits: a region in the top eight, a word offset in the other 24.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from rtl.config import BIAS_BITS, MAGIC, VERSION, ChipConfig


class Opcode(IntEnum):
    """What a frame to the chip asks for; the answer carries the opcode with the top bit set."""

    READ = 0x01
    """Payload: one word, the number of words to read from the address on."""
    WRITE = 0x02
    """Payload: the words to write from the address on."""
    SCATTER = 0x03
    """Payload: pairs of a full address and a word; the address field of the frame is ignored."""
    PLANE = 0x04
    """Rows of the bit plane, without padding, from the source in the address field on (chips with binary weights)."""
    RUN = 0x10
    """One sample. The address field is the sample's 32-bit random seed; payload: intensities or events."""
    LEARN = 0x11
    """Like RUN with the label before the payload: errors, gradient spikes and weight updates (learning chips)."""


ANSWER = 0x80
"""Set in the opcode of every answer."""

LAST = 1 << 32
"""Bit of a link word that marks the end of a frame."""


class Status(IntEnum):
    """Lowest 16 bits of an answer's header."""

    OK = 0
    BAD_CRC = 1
    BAD_LENGTH = 2
    """Shorter or longer than the header says, or not the length this opcode needs."""
    BAD_OPCODE = 3
    BAD_ADDRESS = 4
    """No such region, or past its end (the whole frame is refused)."""
    DENIED = 5
    """Reading a write-only region or writing a read-only one."""
    BAD_LABEL = 6
    """The label of a LEARN frame is no output neuron."""


BAD_EVENTS = 1 << 31
"""Set in the input-spike word of a RUN answer whose events were not ascending, too late or at no input."""


class Region(IntEnum):
    """Top eight bits of an address."""

    REGISTERS = 0x00
    WEIGHTS = 0x01
    WEIGHT = 0x02
    THRESHOLD = 0x03
    BIAS = 0x04
    DELAYS = 0x05
    DELAY = 0x06
    DIE_SYNAPSE = 0x10
    DIE_NEURON = 0x11
    DIE_BIAS = 0x12
    DIE_GLOBAL = 0x13


REGION_SHIFT = 24


class Encoding(IntEnum):
    """Register ENCODING: what the payload of a RUN frame is and how it becomes spikes."""

    RATE = 0
    BERNOULLI = 1
    EVENTS = 2


class Reset(IntEnum):
    """Field RESET of register MODE: what a spike does to the membrane."""

    NONE = 0
    ZERO = 1
    SUBTRACT = 2


class Fire(IntEnum):
    """Field FIRE of register MODE: what makes a neuron spike (learning chips)."""

    THRESHOLD = 0
    STOCHASTIC = 1
    WINNER = 2
    """Winner-take-all; in the last layer only, elsewhere as THRESHOLD."""


class Noise(IntEnum):
    """Field KIND of register NOISE: distribution of the noise of a winner-take-all layer."""

    NONE = 0
    FLAT = 1
    GUMBEL = 2
    """Makes the winner a sample of the softmax."""


@dataclass(frozen=True)
class RegionInfo:
    """One region of the address space: size in words (`depth`), element width, access, meaning."""

    region: Region
    depth: int
    bits: int
    readable: bool
    writable: bool
    doc: str


def regions(cfg: ChipConfig) -> dict[Region, RegionInfo]:
    """All regions of the chip `cfg`; it has those of its die tables only."""
    lanes, per_word = cfg.lanes, cfg.weights_per_link_word
    neurons = cfg.neuron_depth * lanes
    table = [
        RegionInfo(Region.REGISTERS, REGISTER_SPACE, 32, True, True, "Configuration and control registers, see below."),
        RegionInfo(
            Region.WEIGHTS,
            cfg.weight_depth * (lanes // per_word),
            32,
            True,
            True,
            f"Weights in bulk: {per_word} of {cfg.weight_bits} bits in a word, lowest lane lowest."
            if cfg.weight_bits > 1
            else f"Weights in bulk: {per_word} in a word, lowest lane lowest; 0 is a weight of 1, 1 one of -1.",
        ),
        RegionInfo(
            Region.WEIGHT,
            cfg.weight_depth * lanes,
            cfg.weight_bits,
            False,
            True,
            "Single weights: offset = weight word * lanes + lane.",
        ),
        RegionInfo(
            Region.THRESHOLD,
            neurons,
            cfg.state_bits,
            True,
            True,
            "Firing threshold of a neuron, signed: offset = neuron word * lanes + lane.",
        ),
        RegionInfo(Region.BIAS, neurons, BIAS_BITS, True, True, "Bias of a neuron, signed; addressed alike."),
    ]
    if cfg.delay_slots:
        per_word = cfg.delays_per_link_word
        elements = cfg.delay_depth if cfg.axonal_delays else cfg.delay_depth * lanes
        what = (
            "Delays: one of each source, offset = source_base + source."
            if cfg.axonal_delays
            else f"Delays in bulk: {per_word} of {cfg.delay_bits} bits in a word, lowest lane lowest."
        )
        table.append(RegionInfo(Region.DELAYS, elements // per_word, 32, True, True, what))
        if not cfg.axonal_delays:
            single = "Single delays: offset = weight word * lanes + lane."
            table.append(RegionInfo(Region.DELAY, elements, cfg.delay_bits, False, True, single))
    if cfg.die_tables:
        table += [
            RegionInfo(
                Region.DIE_SYNAPSE,
                cfg.weight_depth * lanes,
                31,
                False,
                True,
                "Per synapse, addressed like single weights: [13:0] gain of a positive weight, [27:14] gain of a "
                "negative weight, both signed in 1/256; [30:28] transfer class.",
            ),
            RegionInfo(
                Region.DIE_NEURON,
                neurons,
                32,
                False,
                True,
                "Per neuron: [15:0] threshold gain, signed, [31:16] membrane leak gain, unsigned; in 1/1024.",
            ),
            RegionInfo(Region.DIE_BIAS, neurons, 31, False, True, "Per neuron: what DIE_SYNAPSE is for the bias."),
            RegionInfo(
                Region.DIE_GLOBAL,
                DIE_GLOBAL_SPACE,
                20,
                False,
                True,
                "Offset 4*c + {0: slope (0..256, in 1/256), 1: offset, 2: cap (both in 1/16 weight)} of transfer class "
                "c = 0..7; amplitudes: offset 32 membrane noise (16 bits), 33 threshold noise (10 bits), 34 jitter of "
                "delays (8 bits).",
            ),
        ]
    missing = () if cfg.distorts_synapses else (Region.DIE_SYNAPSE, Region.DIE_BIAS)
    return {info.region: info for info in table if info.region not in missing}


TRANSFER_CLASSES = 8
DIE_GLOBAL_SPACE = 35
DIE_NOISE_OFFSET = 32
DIE_THRESHOLD_NOISE_OFFSET = 33
DIE_JITTER_OFFSET = 34
DIE_NEUTRAL_GAIN = 256
DIE_NEUTRAL_RATIO = 1024
DIE_UNLIMITED = (1 << 20) - 1
"""Offset and cap of a transfer class that never bends."""


@dataclass(frozen=True)
class Register:
    """One register: its offset in the region REGISTERS, width, sign, reset value, access and meaning.

    `constant` is the value of a read-only register.
    """

    name: str
    offset: int
    bits: int
    doc: str
    signed: bool = False
    reset: int = 0
    constant: int | None = None

    @property
    def readonly(self) -> bool:
        return self.constant is not None

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest value."""
        return (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.signed else (0, (1 << self.bits) - 1)


REGISTER_SPACE = 0x100
SIZE_OFFSET = 0x10
LAYER_OFFSET = 0x80
LAYER_STRIDE = 0x10

MODE_RESET = 0
MODE_FIRE_ONCE = 2
MODE_GATE_AT_THRESHOLD = 3
MODE_FIRE = 4
"""Bit positions in register MODE."""

NOISE_SHIFT = 0
NOISE_KIND = 4
"""Bit positions in register NOISE."""

RATE_ONE = 1 << 16
"""Learning rate of 1: every presynaptic spike counts."""

RECORD_RASTER = 0
RECORD_GATE = 1
RECORD_GRADIENT = 2
"""Bit positions in register RECORD."""


def features(cfg: ChipConfig) -> int:
    """Value of register FEATURES."""
    bits = cfg.die_tables, cfg.trace, cfg.learning, cfg.axonal_delays, not cfg.bernoulli
    return sum(bit << place for place, bit in enumerate(bits))


def global_registers(cfg: ChipConfig) -> list[Register]:
    """Registers of the whole chip."""
    return [
        Register("MAGIC", 0x00, 32, "The letters SPKL.", constant=MAGIC),
        Register("VERSION", 0x01, 32, "Version of registers, frames and memory map.", constant=VERSION),
        Register("LAYERS", 0x02, 32, "Number of layers, inputs included.", constant=len(cfg.layers)),
        Register("LANES", 0x03, 32, "Synapses handled in a clock cycle.", constant=cfg.lanes),
        Register("WEIGHT_BITS", 0x04, 32, "Width of a weight; 1: weights are -1 and 1.", constant=cfg.weight_bits),
        Register("STATE_BITS", 0x05, 32, "Width of current, membrane and threshold.", constant=cfg.state_bits),
        Register(
            "FEATURES",
            0x06,
            32,
            "Bit 0: die tables. Bit 1: trace port. Bit 2: learning. Bit 3: one delay per source. "
            "Bit 4: no Bernoulli code.",
            constant=features(cfg),
        ),
        Register(
            "LINK_DEPTH", 0x07, 32, "Words of the receive buffer: longest frame without CRC.", constant=cfg.link_depth
        ),
        Register("DELAY_SLOTS", 0x08, 32, "Delays go up to one step less; 0: none.", constant=cfg.delay_slots),
        Register("NEURON_LANES", 0x09, 32, "Neurons updated in a clock cycle.", constant=cfg.neuron_width),
        *(
            Register(f"SIZE{index}", SIZE_OFFSET + index, 32, f"Size of layer {index}.", constant=size)
            for index, size in enumerate(cfg.layers)
        ),
        Register("STEPS", 0x40, 16, "Time steps of a sample, 1 to 65534 (0 acts as 1).", reset=1),
        Register(
            "ENCODING",
            0x41,
            2,
            "Payload of RUN frames: 0 intensities, deterministic rate; 1 intensities, Bernoulli (acts as 0 on chips "
            "without it); 2 or 3 timed events.",
        ),
        Register(
            "RECORD",
            0x42,
            3 if cfg.learning else 2,
            "Streams in the answer to RUN. Bit 0: spike raster. Bit 1: gate raster."
            + (" Bit 2: gradient raster (LEARN only)." if cfg.learning else ""),
        ),
        *(
            [Register("LEARN_ENABLE", 0x43, 7, "Bit l: LEARN frames change the weights of layer l of neurons.")]
            if cfg.learning
            else []
        ),
        Register(
            "EARLY_END",
            0x44,
            1,
            "1: a RUN frame without rasters ends after the step by which every neuron of the last layer has fired.",
        ),
        Register("BRIEF", 0x45, 1, "1: the answer to a sample leaves out the summed potentials of the last layer."),
    ]


def layer_registers(cfg: ChipConfig, layer: int) -> list[Register]:
    """Registers of one layer of neurons (`layer` counts from 0, the first layer after the inputs)."""
    base, state = LAYER_OFFSET + layer * LAYER_STRIDE, cfg.state_bits
    return [
        Register(
            f"L{layer}_DECAY_SYN", base + 0, 13, "Decay of the synaptic current, ds, in 1/4096 (4096: no memory)."
        ),
        Register(f"L{layer}_DECAY_MEM", base + 1, 13, "Decay of the membrane, dm, in 1/4096 (4096: no memory)."),
        Register(f"L{layer}_SHIFT", base + 2, 4, "Left shift of the weighted sum, sh."),
        Register(
            f"L{layer}_MODE",
            base + 3,
            6 if cfg.learning else 4,
            "[1:0] reset (0 none, 1 to zero, 2 subtract); [2] fire once; [3] gate centre counts from the threshold"
            + ("; [5:4] fire (0 threshold, 1 stochastic, 2 winner-take-all)." if cfg.learning else "."),
        ),
        Register(f"L{layer}_RESET_AMOUNT", base + 4, state, "What a spike subtracts from the membrane.", signed=True),
        Register(f"L{layer}_REFRACTORY", base + 5, 8, "Steps after a spike in which the neuron cannot fire."),
        Register(f"L{layer}_GATE_CENTRE", base + 6, state, "Centre of the gate.", signed=True),
        Register(f"L{layer}_GATE_WINDOW", base + 7, state, "Half width of the gate: open if |V - centre| < window."),
        *(_learning_registers(layer, base) if cfg.learning else []),
    ]


def _learning_registers(layer: int, base: int) -> list[Register]:
    return [
        Register(f"L{layer}_FIRE_BITS", base + 8, 5, "Bits of the random number of stochastic firing, 0 to 16."),
        Register(
            f"L{layer}_NOISE",
            base + 9,
            6,
            "Of a winner-take-all layer: [3:0] shift, [5:4] kind of noise (0 none, 1 flat, 2 Gumbel).",
        ),
        Register(f"L{layer}_GRADIENT_BITS", base + 10, 5, "Bits of the random number of gradient spikes, 0 to 16."),
        Register(
            f"L{layer}_RATE",
            base + 11,
            17,
            "Probability, in 1/65536, that a presynaptic spike takes part in an update of this layer's weights.",
        ),
        Register(f"L{layer}_FORWARD_SHIFT", base + 12, 3, "Arithmetic right shift of the weights in the forward pass."),
    ]


def registers(cfg: ChipConfig) -> list[Register]:
    """Every register of the chip `cfg`, by ascending offset."""
    layers = (layer_registers(cfg, layer) for layer in range(len(cfg.neuron_layers)))
    return [*global_registers(cfg), *(register for layer in layers for register in layer)]
