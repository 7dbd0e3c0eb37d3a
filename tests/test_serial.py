"""The serial link: its two ends over good and bad lines, and what a host says when there is no chip at the port."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial
from golden_reference import make_frame, payload, program, readable
from hypothesis import given, settings
from hypothesis import strategies as st
from serial_peer import Noise, Peer, peer
from test_chip import CFG as IMAGES
from test_chip import equal, images, random_network
from typer.testing import CliRunner

from host import Chip, cli, datasets
from host import serial as host_serial
from host.die import Die
from host.errors import BackendError, ChipMismatch, DieError, LinkLost
from host.jobs import RunSpec, evaluate_run, train
from host.runs import RunFolder
from host.serial import SerialBackend, parse
from host.trainers import MetropolisHastings, SpikeBackprop
from pymodel import GoldenChip
from pymodel.serial import GoldenSerial, Packet
from rtl.config import ChipConfig
from rtl.packets import Flag
from rtl.registers import Opcode, Region

CFG = ChipConfig((6, 5, 3), lanes=4, learning=True, die_tables=False)
STEPS = 7
FAST = 4_000_000


class Ledger(GoldenChip):
    """A golden chip that writes down every word that it was given."""

    def __init__(self, cfg: ChipConfig) -> None:
        super().__init__(cfg)
        self.words: list[np.ndarray] = []

    def exchange(self, words: np.ndarray) -> np.ndarray:
        self.words.append(words)
        return super().exchange(words)

    def given(self) -> np.ndarray:
        """All words since the last reset, which is the first exchange of a session and of no other kind."""
        first = next(i for i in range(len(self.words), 0, -1) if np.array_equal(self.words[i - 1], self.words[0]))
        return np.concatenate([np.zeros(0, np.uint64), *self.words[first:]])


def stream(*frames: list[int]) -> np.ndarray:
    return np.array([word for frame in frames for word in frame], np.uint64)


def everything(seed: int, samples: int = 20, cfg: ChipConfig = CFG) -> np.ndarray:
    """A random network, then samples, lessons, writes, single writes, mistakes and reading, in any order."""
    rng = np.random.default_rng(seed)
    frames = []
    for tag in range(samples):
        match int(rng.integers(6)):
            case 0 | 1:
                frames.append(make_frame(Opcode.RUN, int(rng.integers(1 << 32)), payload(cfg, 0, STEPS, rng), tag))
            case 2:
                words = [int(rng.integers(cfg.n_out)), *payload(cfg, 0, STEPS, rng)]
                frames.append(make_frame(Opcode.LEARN, int(rng.integers(1 << 32)), words, tag))
            case 3:
                words = rng.integers(0, 1 << 32, int(rng.integers(0, 10))).tolist()
                frames.append(make_frame(Opcode.WRITE, Region.WEIGHTS << 24, words, tag))
            case 4:
                pairs = np.stack([Region.WEIGHT << 24 | rng.integers(0, 8, 20), rng.integers(0, 256, 20)], axis=1)
                frames.append(make_frame(Opcode.SCATTER, 0, pairs.ravel().tolist(), tag))
            case 5:
                frames.append(rng.integers(0, 1 << 32, int(rng.integers(1, 20))).tolist())
                frames[-1][-1] |= 1 << 32
    setup = [make_frame(Opcode.WRITE, 0x40, [STEPS, 0, 0, 3])]
    return stream(*program(cfg, rng), *setup, *frames, *readable(cfg))


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """The model's loops are compiled before a host waits for them."""
    GoldenChip(CFG).exchange(everything(0))
    with Chip(IMAGES) as chip:
        chip.load(random_network())
        for encoding in ("rate", "bernoulli"):
            chip.run(images(), 5, encoding=encoding)


# ---- both ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "store"), [(1, 1), (2, 7), (7, 2), (16, 16), (127, 64)])
def test_answers_are_those_of_the_chip_itself_whatever_there_is_room_for(window: int, store: int) -> None:
    words, chip = everything(1), Ledger(CFG)
    with (
        peer(GoldenSerial(CFG, chip, window=window, store=store).receive) as line,
        SerialBackend(CFG, line.device, baud=FAST) as backend,
    ):
        assert np.array_equal(backend.exchange(words), GoldenChip(CFG).exchange(words))
        assert np.array_equal(chip.given(), words)
        assert backend.exchange(np.zeros(0, np.uint64)).size == 0
        assert backend.traffic.packets_damaged == 0
        assert backend.clock_hz == 12_000_000


@pytest.mark.parametrize("seed", range(3))
def test_a_line_that_damages_one_byte_in_a_hundred_loses_nothing_and_repeats_nothing(seed: int) -> None:
    words, chip = everything(seed, 12), Ledger(CFG)
    bridge, down, up = GoldenSerial(CFG, chip), Noise(0.01, 2 * seed), Noise(0.01, 2 * seed + 1)
    with peer(lambda sent: up(bridge.receive(down(sent)))) as line, connected(line) as backend:
        found = backend.exchange(words)
        assert np.array_equal(found, GoldenChip(CFG).exchange(words))
        assert np.array_equal(chip.given(), words)
        assert backend.traffic.packets_damaged > 5
        assert backend.traffic.packets_repeated > 5


def connected(line: Peer) -> SerialBackend:
    """A session over a bad line, where a HELLO may need more patience than it gets by itself."""
    for _ in range(20):
        try:
            return SerialBackend(CFG, line.device, baud=FAST)
        except BackendError:
            pass
    raise AssertionError("no greeting came through")


def test_a_count_of_used_packets_may_be_newer_than_that_of_received_ones() -> None:
    words, bridge, told = everything(7), GoldenSerial(CFG), [0]

    def older(packet: Packet) -> Packet:
        received, told[0] = told[0], packet.next
        return packet if packet.flags & Flag.HELLO else replace(packet, next=received)

    def answer(sent: bytes) -> bytes:
        return b"".join(older(packet).encode() for packet in packets_of(bridge.receive(sent)))

    with peer(answer) as line, SerialBackend(CFG, line.device, baud=FAST) as backend:
        assert np.array_equal(backend.exchange(words), GoldenChip(CFG).exchange(words))
        assert backend.traffic.packets_repeated == 0


def test_frames_may_be_cut_anywhere_between_exchanges() -> None:
    words = everything(4, 10)
    rng, model, chip = np.random.default_rng(4), GoldenChip(CFG), Ledger(CFG)
    cuts = np.sort(rng.integers(0, len(words), 40))
    with peer(GoldenSerial(CFG, chip).receive) as line, SerialBackend(CFG, line.device, baud=FAST) as backend:
        for part in np.split(words, cuts):
            assert np.array_equal(backend.exchange(part), model.exchange(part))
        assert np.array_equal(chip.given(), words)


def test_a_chip_behind_a_port_is_the_golden_chip_to_the_bit() -> None:
    with (
        peer(GoldenSerial(IMAGES).receive) as line,
        Chip(IMAGES, f"serial:{line.device}") as chip,
        Chip(IMAGES) as model,
    ):
        for one in (chip, model):
            one.load(random_network())
        a, b = (one.run(images(), 20, 4, "bernoulli", ("raster", "gate")) for one in (chip, model))
        assert equal(a, b)
        assert all(np.array_equal(x, y) for x, y in zip(chip.weights(), model.weights(), strict=True))


def test_training_through_a_port_equals_training_the_model() -> None:
    moons, digits = datasets.split("moons", 40, seed=0), datasets.split("digits", 200, seed=0)
    small, large = ChipConfig((4, 6, 2), lanes=4), ChipConfig((64, 8, 10), lanes=8, die_tables=False, learning=True)
    found = []
    for port in (False, True):
        with peer(GoldenSerial(small).receive) as a, peer(GoldenSerial(large).receive) as b:
            with Chip(small, f"serial:{a.device}@{FAST}" if port else "golden") as chip:
                chain = MetropolisHastings(chip, steps=40, timesteps=12, seed=5).fit(moons.x_train, moons.y_train)
                found.append([chain.predict_proba(moons.x_test)])
            with Chip(large, f"serial:{b.device}@{FAST}" if port else "golden") as chip:
                learner = SpikeBackprop(chip, 1, timesteps=5, batch_size=30, seed=5)
                learner.fit(digits.x_train[:60], digits.y_train[:60])
                found[-1] += [*learner.weights_, *chip.weights()]
    assert all(np.array_equal(x, y) for x, y in zip(*found, strict=True))


def test_the_host_finds_the_baud_rate() -> None:
    with peer(GoldenSerial(CFG).receive, baud=2_000_000) as line, SerialBackend(CFG, line.device) as backend:
        assert backend.baud == 2_000_000
        assert np.array_equal(backend.exchange(everything(0)), GoldenChip(CFG).exchange(everything(0)))


# ---- time -----------------------------------------------------------------------------------------------------------


def test_a_chip_that_is_busy_is_waited_for_and_never_given_more_than_it_has_room_for() -> None:
    words, bridge = everything(2), GoldenSerial(CFG, window=3)
    free_at = time.monotonic() + 1.5
    room = []

    def slow(sent: bytes) -> bytes:
        answer = bridge.receive(sent, stalled=time.monotonic() < free_at)
        room.append(bridge.window - len(bridge._received))
        return answer

    with peer(slow) as line, SerialBackend(CFG, line.device, baud=FAST, timeout=0.4) as backend:
        assert np.array_equal(backend.exchange(words), GoldenChip(CFG).exchange(words))
        assert time.monotonic() > free_at
        assert min(room) == 0
        assert backend.traffic.packets_repeated == 0
        assert 3 <= backend.traffic.polls < 40


def after(frames: int, first: Callable[[bytes], bytes], then: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Answers as `first` until it was called so many times, then as `then`."""
    calls = [0]

    def answer(sent: bytes) -> bytes:
        calls[0] += 1
        return (first if calls[0] <= frames else then)(sent)

    return answer


def silence(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("then", "sentence"),
    [
        (silence, r"was silent for \d\.\d s with \d+ frames unanswered"),
        (lambda _: Packet(Flag(0)).encode(), "got no further|as if the chip had been reset"),
        (lambda sent: bytes(len(sent)), r"was silent for \d\.\d s with \d+ frames unanswered"),
    ],
    ids=["silent", "idle", "zeros"],
)
def test_a_link_that_is_lost_in_the_middle_is_reported_once_and_can_be_begun_anew(
    then: Callable[[bytes], bytes], sentence: str
) -> None:
    words, bridge = everything(3, 200), GoldenSerial(CFG)
    with peer(after(9, bridge.receive, then)) as line:
        backend = SerialBackend(CFG, line.device, baud=FAST, timeout=0.5)
        with pytest.raises(LinkLost, match=sentence):
            backend.exchange(words)
        with pytest.raises(LinkLost, match="broken off before: call restart"):
            backend.exchange(words)
        with pytest.raises(LinkLost, match=r"did not come back within 0.5 s: "):
            backend.restart()
        line.answer = bridge.receive
        backend.restart()
        assert len(backend.exchange(words))
        backend.close()
        backend.close()


def test_a_chip_that_was_reset_in_the_middle_is_not_taken_for_the_same() -> None:
    """What it says then may be anything but answers to frames that it never saw."""
    bridge = GoldenSerial(CFG)

    def reset(sent: bytes) -> bytes:
        bridge._forget()
        line.answer = bridge.receive
        return bridge.receive(sent)

    with peer(bridge.receive) as line, SerialBackend(CFG, line.device, baud=FAST, timeout=0.5) as backend:
        backend.exchange(everything(5))
        line.answer = reset
        with pytest.raises(LinkLost, match="as if the chip had been reset"):
            backend.exchange(everything(6))


def test_a_chip_survives_a_link_that_comes_back_and_gives_up_on_one_that_does_not() -> None:
    bridge = GoldenSerial(IMAGES)
    with peer(bridge.receive) as line, Chip(IMAGES, f"serial:{line.device}@{FAST}", timeout=0.5) as chip:
        chip.load(random_network())
        before = chip.run(images(), 9)
        hello = [0]

        def dead_until_hello(sent: bytes) -> bytes:
            hello[0] += any(p is not None and p.flags & Flag.HELLO for p in map(Packet.decode, sent.split(b"\0")))
            return bridge.receive(sent) if hello[0] else b""

        line.answer = dead_until_hello
        with pytest.warns(RuntimeWarning, match="was restarted, nothing is lost"):
            assert equal(chip.run(images(), 9), before)
        line.answer = silence
        for _ in range(2):
            with pytest.warns(RuntimeWarning, match="restarted"), pytest.raises(LinkLost, match="did not come back"):
                chip.run(images(), 9)


def test_a_port_that_is_unplugged_is_a_lost_link() -> None:
    bridge = GoldenSerial(CFG)
    with peer(bridge.receive) as line:
        backend = SerialBackend(CFG, line.device, baud=FAST, timeout=0.3)
        line.unplug()
        with pytest.raises(LinkLost, match=f"the serial port {line.device} failed"):
            backend.exchange(everything(0))
        with pytest.raises(LinkLost, match=f"did not come back within 0.3 s: there is no serial port {line.device}"):
            backend.restart()


def test_an_interrupted_exchange_breaks_the_session_off() -> None:
    bridge = GoldenSerial(CFG)

    def interrupt(sent: bytes) -> bytes:
        line.answer = bridge.receive
        signal.raise_signal(signal.SIGINT)
        return b""

    with peer(bridge.receive) as line, SerialBackend(CFG, line.device, baud=FAST) as backend:
        line.answer = interrupt
        with pytest.raises(KeyboardInterrupt):
            backend.exchange(everything(0))
        with pytest.raises(LinkLost, match="call restart"):
            backend.exchange(everything(0))
        backend.restart()
        assert np.array_equal(backend.exchange(everything(0)), GoldenChip(CFG).exchange(everything(0)))


CHILD = """
import sys
from host import Chip
from test_chip import CFG, images, random_network
with Chip(CFG, sys.argv[1]) as chip:
    chip.load(random_network())
    print("ready", flush=True)
    while True:
        chip.run(images(200), 30)
"""


def test_a_host_that_was_killed_leaves_a_chip_that_the_next_one_can_use() -> None:
    with peer(GoldenSerial(IMAGES).receive) as line:
        arguments = [sys.executable, "-c", CHILD, f"serial:{line.device}@{FAST}"]
        folders = {"PYTHONPATH": os.pathsep.join(str(folder) for folder in Path(__file__).parents[:2])}
        with subprocess.Popen(arguments, env={**os.environ, **folders}, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(0.2)
            with pytest.raises(BackendError, match="is in use by another program"):
                SerialBackend(IMAGES, line.device)
            child.kill()
        with Chip(IMAGES, f"serial:{line.device}@{FAST}") as chip, Chip(IMAGES) as model:
            for one in (chip, model):
                one.load(random_network(seed=7))
            assert equal(chip.run(images(), 9), model.run(images(), 9))


def test_a_new_session_resets_registers_and_keeps_memories() -> None:
    bridge = GoldenSerial(CFG)
    write = stream(
        make_frame(Opcode.WRITE, 0x40, [99, 1]),
        make_frame(Opcode.WRITE, Region.BIAS << 24, [5, 6, 7]),
        make_frame(Opcode.WRITE, 0x80, [1, 2, 3]),
    )
    read = stream(make_frame(Opcode.READ, 0x40, [2]), make_frame(Opcode.READ, Region.BIAS << 24, [3]))
    fresh = GoldenChip(CFG)
    fresh.exchange(stream(make_frame(Opcode.WRITE, Region.BIAS << 24, [5, 6, 7])))
    with peer(bridge.receive) as line:
        with SerialBackend(CFG, line.device, baud=FAST) as backend:
            backend.exchange(np.concatenate([write, write[:2]]))
        with SerialBackend(CFG, line.device, baud=FAST) as backend:
            assert np.array_equal(backend.exchange(read), fresh.exchange(read))


@pytest.mark.parametrize("cfg", [IMAGES, ChipConfig(IMAGES.layers, binary_weights=True)], ids=["weights", "bits"])
def test_a_chip_opened_without_a_die_does_not_keep_that_of_the_session_before(cfg: ChipConfig) -> None:
    kinds = None if cfg.distorts_synapses else ("threshold", "leak")
    rng = np.random.default_rng(5)
    bits = {"weights": [rng.choice([-1, 1], shape) for shape in cfg.shapes], "thresholds": 90}
    network = random_network(cfg) if cfg.distorts_synapses else random_network(cfg, **bits)
    with peer(GoldenSerial(cfg).receive) as line:
        with Chip(cfg, f"serial:{line.device}@{FAST}", Die(3, 2.0, kinds, noise=300.0)) as chip:
            chip.load(network)
            distorted = chip.run(images(), 20)
        with Chip(cfg, f"serial:{line.device}@{FAST}") as chip, Chip(cfg) as model:
            for one in (chip, model):
                one.load(network)
            found, expected = (one.run(images(), 20) for one in (chip, model))
    assert equal(found, expected)
    assert not equal(distorted, expected)


def test_a_new_session_resets_the_registers_of_the_die_and_keeps_its_memories() -> None:
    def run(chip: Any, die: Die | None = None) -> Any:
        opened = Chip(IMAGES, chip, die)
        opened.load(random_network())
        return opened.run(images(), 20)

    bridge, model = GoldenSerial(IMAGES), GoldenChip(IMAGES)
    die = Die(3, 1.0, noise=300.0, threshold_noise=0.2)
    before = [run(chip, die) for chip in (bridge.chip, model)]
    assert equal(*before)
    bridge.receive(Packet(Flag.HELLO, payload=b"abcd").encode())
    model.exchange(stream(make_frame(Opcode.WRITE, Region.DIE_GLOBAL << 24, Die().tables(IMAGES).globals.tolist())))
    found = run(bridge.chip)
    assert equal(found, run(model))
    assert not equal(found, before[0])
    assert not equal(found, run(GoldenChip(IMAGES)))


# ---- nobody there ---------------------------------------------------------------------------------------------------


def greeting(change: Callable[[list[int]], list[int]]) -> Callable[[bytes], bytes]:
    """A golden chip whose greeting has other words."""
    bridge = GoldenSerial(CFG)

    def answer(sent: bytes) -> bytes:
        packet = Packet.decode(bridge.receive(sent).split(b"\0")[0])
        if packet is None:
            return b""
        words = change(np.frombuffer(packet.payload, "<u4").tolist())
        return Packet(packet.flags, payload=np.array(words, "<u4").tobytes()).encode()

    return answer


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (silence, r"nothing answers at the serial port /dev/\S+ \(baud rates tried: 4000000\)"),
        (lambda sent: b"login: "[: len(sent)], r"7 bytes came at 4000000 baud, the first are 6c 6f 67 69 6e 3a 20"),
        (Noise(1.0, 0), "something else than a spikeloop chip answers"),
        (lambda sent: sent, "gives back what is sent"),
        (greeting(lambda words: [words[0], 0x53504B4C, *words[2:]]), "greets with 0x53504B4C instead of 0x53504B55"),
        (greeting(lambda words: [*words[:2], words[2] + 1, words[3]]), "speaks version 2 .* knows version 1 only"),
        (greeting(lambda words: [*words[:2], 1, words[3]]), "a window of 0 packets of 0 words"),
        (greeting(lambda words: [words[0] ^ 1, *words[1:]]), "something else than a spikeloop chip answers"),
    ],
    ids=["silent", "console", "noise", "echo", "magic", "version", "window", "number"],
)
def test_what_is_no_chip_is_refused_with_a_sentence(answer: Callable[[bytes], bytes], sentence: str) -> None:
    with peer(after(1, answer, silence) if sentence.startswith("7 bytes") else answer) as line:
        with pytest.raises(BackendError, match=sentence) as refusal:
            SerialBackend(CFG, line.device, baud=FAST)
        assert "\n" not in str(refusal.value)


def test_every_usual_baud_rate_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_serial, "PROBE_SECONDS", 0.03)
    with peer(silence) as line, pytest.raises(BackendError, match=r"tried: 1000000 3000000 2000000 921600 .* 115200"):
        SerialBackend(CFG, line.device)


def test_a_chip_of_another_configuration_is_refused() -> None:
    with (
        peer(GoldenSerial(ChipConfig((6, 5, 3), lanes=8)).receive) as line,
        pytest.raises(ChipMismatch, match="LANES holds 8, expected 4"),
    ):
        Chip(CFG, f"serial:{line.device}@{FAST}")


def test_ports_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"there is no serial port /dev/nowhere: there (is none|are /dev)"):
        SerialBackend(CFG, "/dev/nowhere")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(BackendError, match="cannot be used as a serial port"):
        SerialBackend(CFG, str(file))

    def denied(*_: Any, **__: Any) -> None:
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial, "Serial", denied)
    with pytest.raises(BackendError, match=r"no permission .*: it belongs to the group \w+, become a member of it"):
        SerialBackend(CFG, str(file))
    with pytest.raises(BackendError, match=r"no permission for the serial port /dev/nowhere$"):
        SerialBackend(CFG, "/dev/nowhere")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("serial", {}, "must name a serial port, for example serial:/dev/ttyUSB0; there"),
        ("serial:", {}, "must name a serial port"),
        ("serial:@9600", {}, "must name a serial port"),
        ("serial:/dev/x@9600", {"baud": 9600}, r"does not take the options \['baud'\]"),
        ("serial:/dev/x", {"speed": 1}, r"does not take the options \['speed'\]"),
        ("serial:/dev/x", {"baud": 0}, "baud = 0: must be an integer from 1 on"),
        ("serial:/dev/x", {"baud": "1"}, "baud = '1'"),
        ("serial:/dev/x", {"timeout": 0}, "timeout = 0: must be a number of seconds above 0"),
        ("serial:/dev/x", {"timeout": float("nan")}, "timeout = nan"),
        ("serial0", {}, "'serial0': must be \"golden\""),
    ],
)
def test_backends_that_are_badly_named(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BackendError, match=sentence):
        Chip(CFG, name, **options)


def test_a_name_may_hold_the_baud_rate() -> None:
    assert parse("serial:/dev/ttyUSB0") == ("/dev/ttyUSB0", {})
    assert parse("serial:/dev/ttyUSB0@115200") == ("/dev/ttyUSB0", {"baud": 115_200})
    assert parse("serial:/dev/odd@name") == ("/dev/odd@name", {})


# ---- the golden end alone -------------------------------------------------------------------------------------------


def packets_of(data: bytes) -> list[Packet]:
    found = [Packet.decode(part) for part in data.split(b"\0")[:-1]]
    assert None not in found
    return found  # type: ignore[return-value]


@settings(max_examples=200)
@given(st.integers(0, 31), st.binary(min_size=3, max_size=3), st.integers(0, 16), st.randoms())
def test_packets_survive_encoding_and_nothing_else_is_one(flags: int, header: bytes, n: int, random: Any) -> None:
    packet = Packet(Flag(flags), *header, random.randbytes(4 * n))
    encoded = packet.encode()
    assert encoded.index(0) == len(encoded) - 1 <= 73
    assert Packet.decode(encoded[:-1]) == packet
    at = random.randrange(len(encoded) - 1)
    damaged = encoded[:at] + bytes([encoded[at] ^ 1 << random.randrange(8)]) + encoded[at + 1 : -1]
    assert all(part is None for part in map(Packet.decode, damaged.split(b"\0")))


def test_the_golden_end_keeps_the_rules_of_the_page() -> None:
    bridge = GoldenSerial(CFG, window=2, store=2, clock_hz=48_000_000)
    (hello,) = packets_of(bridge.receive(b"rubbish\0\0" + Packet(Flag.HELLO, payload=b"abcd").encode()))
    assert hello.flags == Flag.HELLO
    words = [0x53504B55, 1 | 2 << 8 | 16 << 16, 48_000_000]
    assert hello.payload == b"abcd" + np.array(words, "<u4").tobytes()

    frame = make_frame(Opcode.READ, 0, [1], 3)
    data = np.array(frame, np.uint64).astype("<u4").tobytes()
    first = Packet(Flag.DATA, 0, 0, 0, data[:8]).encode()
    second = Packet(Flag.DATA | Flag.LAST, 1, 0, 0, data[8:]).encode()
    # A packet that comes too early is dropped, and the missing one asked for; one that is old is not.
    (answer,) = packets_of(bridge.receive(second))
    assert (answer.flags, answer.next, answer.drained) == (Flag.RESEND, 0, 0)
    (answer,) = packets_of(bridge.receive(first))
    assert (answer.flags, answer.next, answer.drained) == (Flag(0), 1, 1)
    (answer,) = packets_of(bridge.receive(first))
    assert (answer.flags, answer.next) == (Flag(0), 1)
    # The answer to the frame comes by itself, and again when it is asked for, until it is acknowledged.
    (answer,) = packets_of(bridge.receive(second))
    assert (answer.flags, answer.sequence, answer.next, answer.drained) == (Flag.DATA | Flag.LAST, 0, 2, 2)
    assert np.array_equal(np.frombuffer(answer.payload, "<u4"), expected(frame))
    again = packets_of(bridge.receive(Packet(Flag.RESEND).encode()))
    assert again == [answer]
    (empty,) = packets_of(bridge.receive(Packet(Flag(0)).encode()))
    assert empty.flags == Flag(0)
    (empty,) = packets_of(bridge.receive(Packet(Flag.RESEND, next=1).encode()))
    assert empty.flags == Flag(0)
    assert bridge.receive(b"\0\0" + b"\1" * 300 + b"\0") == b""


def expected(frame: list[int]) -> np.ndarray:
    return GoldenChip(CFG).exchange(stream(frame)).astype(np.uint32)


def test_the_golden_end_takes_no_more_than_there_is_room_for_and_says_what_is_used_up() -> None:
    bridge = GoldenSerial(CFG, window=2, store=1)
    bridge.receive(Packet(Flag.HELLO, payload=b"abcd").encode())
    frame = np.array(make_frame(Opcode.READ, 0, [30]), np.uint64).astype("<u4").tobytes()

    def send(index: int, acknowledged: int = 0) -> tuple[Flag, int, int]:
        *_, answer = packets_of(bridge.receive(Packet(Flag.DATA | Flag.LAST, index, acknowledged, 0, frame).encode()))
        return answer.flags & ~(Flag.DATA | Flag.LAST), answer.next, answer.drained

    assert send(0) == (Flag.BUSY, 1, 1)  # an answer of two packets, of which one is stored
    assert send(1) == (Flag.BUSY, 2, 1)
    assert send(2) == (Flag.BUSY, 3, 1)
    assert send(3) == (Flag.BUSY, 3, 1)  # dropped
    assert send(3, 1) == (Flag.BUSY, 3, 3)


# ---- runs of the command line ---------------------------------------------------------------------------------------


def test_a_run_takes_the_configuration_of_the_chip_at_the_port(tmp_path: Path) -> None:
    """Trained through a port on a narrow chip, the network and its accuracy are those of the model as it would be."""
    cfg = ChipConfig((30, 6, 2), lanes=4, die_tables=False, neuron_lanes=1, bernoulli=False)
    spec = RunSpec(hidden=(6,), steps=20, train_size=40, seed=1, backend="golden")
    with peer(GoldenSerial(cfg).receive) as line:
        at_port = replace(spec, backend=f"serial:{line.device}")
        through = train(at_port, RunFolder.create(tmp_path / "serial"), baselines=(), report=False)
    alone = train(replace(spec, lanes=4), RunFolder.create(tmp_path / "golden"), baselines=(), report=False)
    assert through["config"] == cfg.to_dict()
    assert through["accuracy"] == alone["accuracy"]
    assert through["chip"]["synaptic_ops"] == alone["chip"]["synaptic_ops"]


@pytest.mark.parametrize(
    ("cfg", "changes", "sentence"),
    [
        (ChipConfig((30, 5, 2), lanes=4), {}, r"has layers = \(30, 5, 2\): this run needs \(30, 6, 2\)"),
        (ChipConfig((30, 6, 2), lanes=4), {"trainer": "ssnn-bp"}, "has learning = False: this run needs True"),
        (ChipConfig((30, 6, 2), lanes=4, binary_weights=True), {}, "has binary_weights = True: this run needs False"),
        (ChipConfig((30, 6, 2), weight_bits=6), {}, "has weight_bits = 6: this run needs 8 or more"),
        (ChipConfig((30, 6, 2)), {"weight_bits": 10}, "has weight_bits = 8: this run needs 10 or more"),
        (ChipConfig((30, 6, 2), bernoulli=False), {"encoding": "bernoulli"}, "has bernoulli = False: this run needs T"),
    ],
)
def test_a_chip_that_will_not_do_for_a_run_is_refused(
    cfg: ChipConfig, changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with peer(GoldenSerial(cfg).receive) as line, pytest.raises(ChipMismatch, match=sentence):
        train(
            RunSpec(hidden=(6,), train_size=40, backend=f"serial:{line.device}", **changes),
            RunFolder.create(tmp_path / "run"),
        )


def test_a_run_through_a_port_is_evaluated_on_a_model_of_the_chip_that_was_there(tmp_path: Path) -> None:
    cfg = ChipConfig((30, 6, 2), lanes=4, weight_bits=12, state_bits=28, die_tables=False)
    run = RunFolder.create(tmp_path / "run")
    with peer(GoldenSerial(cfg).receive) as line:
        spec = RunSpec(
            hidden=(6,), steps=20, train_size=40, prior_sd=500, start_sd=500, backend=f"serial:{line.device}"
        )
        trained = train(spec, run, baselines=(), report=False)
        again = evaluate_run(run)
    weights = np.load(run.path / "network.npz")
    assert max(abs(weights[name]).max() for name in weights.files if name.startswith("weights")) > 127
    found = evaluate_run(run, backend="golden")
    assert found["accuracy"] == again["accuracy"] == trained["accuracy"]["test"]
    assert found["cycles"] == again["cycles"]
    with pytest.raises(DieError, match="needs a chip with die tables"):
        evaluate_run(run, backend="golden", die=3)


def test_the_command_line_shows_the_chip_that_a_run_took(tmp_path: Path) -> None:
    cfg = ChipConfig((30, 6, 2), lanes=4, weight_bits=10, state_bits=28, die_tables=False)
    with peer(GoldenSerial(cfg).receive) as line:
        arguments = ["train", "--backend", f"serial:{line.device}", "--hidden", "6", "--steps", "3"]
        result = CliRunner().invoke(cli.app, [*arguments, "--train-size", "20", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "Chip: layers 30-6-2, lanes 4, weight bits 10, state bits 28." in result.output


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the model."""
    run = RunFolder.create(tmp_path_factory.mktemp("run"))
    train(RunSpec(steps=2, train_size=20, backend="golden"), run, baselines=(), report=False)
    return run.path


@pytest.mark.parametrize("command", ["train", "demo", "evaluate"])
@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (None, "there is no serial port /dev/does-not-exist: there "),
        (lambda sent: b"ok\r\n", "something else than a spikeloop chip answers at the serial port"),
        (GoldenSerial(ChipConfig((30, 5, 2))).receive, "has layers = (30, 5, 2): this run needs (30, 15, 2)"),
    ],
    ids=["nowhere", "console", "layers"],
)
def test_commands_without_their_chip_exit_with_2_and_a_sentence(
    command: str, answer: Callable[[bytes], bytes] | None, sentence: str, finished: Path, tmp_path: Path
) -> None:
    rest = [str(finished)] if command == "evaluate" else ["--out", str(tmp_path)]
    with peer(answer or silence) as line:
        device = "/dev/does-not-exist" if answer is None else f"{line.device}@{FAST}"
        result = CliRunner().invoke(cli.app, [command, "--backend", f"serial:{device}", *rest])
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
