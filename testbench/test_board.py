"""The simulated board at its pseudo-terminal: greeting, answers, damage, idling, death; and the host's Chip on it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from host import Chip, Network, datasets
from host.backends import is_serial
from host.errors import LinkLost
from host.serial import SerialBackend
from host.trainers import MetropolisHastings, SpikeBackprop
from pymodel.chip import GoldenChip
from pymodel.serial import Packet, packets
from rtl.config import MAGIC, ChipConfig
from rtl.packets import SERIAL_MAGIC, Flag
from rtl.registers import Opcode, Region, regions
from testbench.board import CLOCK_HZ, BoardDied, BoardSimulator, main
from testbench.build import ROOT
from testbench.lockstep import Totals, compare
from testbench.programs import Program, at, frame, random_program

CFG = ChipConfig((4, 5, 2), lanes=4, die_tables=False, learning=True, neuron_lanes=1)


@pytest.fixture(scope="module")
def board() -> Iterator[BoardSimulator]:
    """A good line, for the tests that leave it as it was."""
    with BoardSimulator(CFG) as board:
        yield board


class Client:
    """Packets at a device, with nothing of the host: one at a time, and nothing is sent again."""

    def __init__(self, device: str) -> None:
        self.file = os.open(device, os.O_RDWR | os.O_NOCTTY)
        self.buffer = b""

    def send(self, *packets: Packet) -> None:
        os.write(self.file, b"\0" + b"".join(packet.encode() for packet in packets))

    def receive(self, seconds: float = 20.0) -> Packet:
        while b"\0" not in self.buffer:
            assert select.select([self.file], [], [], seconds)[0], "the board is silent"
            self.buffer += os.read(self.file, 4096)
        encoded, _, self.buffer = self.buffer.partition(b"\0")
        packet = Packet.decode(encoded)
        assert packet is not None
        return packet

    def hello(self, number: int) -> list[int]:
        """Words of the greeting."""
        self.send(Packet(Flag.HELLO, payload=number.to_bytes(4, "little")))
        while not (greeting := self.receive()).flags & Flag.HELLO:
            pass  # still of the session before
        return np.frombuffer(greeting.payload, "<u4").tolist()

    def exchange(self, words: list[int], sequence: int) -> list[int]:
        """Words of the answer to a frame of one packet, the first of a session."""
        [(flags, payload)] = packets(np.array(words, np.uint64))
        self.send(Packet(flags, sequence=sequence, payload=payload))
        answer: list[int] = []
        while True:
            packet = self.receive()
            answer += np.frombuffer(packet.payload, "<u4").tolist()
            if packet.flags & Flag.LAST:
                self.send(Packet(Flag(0), next=packet.sequence + 1))
                return answer


@pytest.fixture
def client(board: BoardSimulator) -> Iterator[Client]:
    client = Client(board.device)
    yield client
    os.close(client.file)


def read_everything(cfg: ChipConfig) -> Program:
    """Frames that read every memory from end to end."""
    program = Program(cfg, 0)
    for info in regions(cfg).values():
        for start in range(0, info.depth, 200):
            program.frames.append(frame(Opcode.READ, at(info.region, start), [min(200, info.depth - start)]))
    return program


# ---- the board itself -----------------------------------------------------------------------------------------------


def test_the_board_greets_and_its_chip_tells_what_it_is(client: Client) -> None:
    number, magic, version, clock_hz = client.hello(0x1234_5678)
    assert (number, magic, version & 0xFF, clock_hz) == (0x1234_5678, SERIAL_MAGIC, 1, CLOCK_HZ)
    words = frame(Opcode.READ, at(Region.REGISTERS), [1])
    answer = client.exchange(words, 0)
    assert answer[1] == MAGIC
    assert answer == (GoldenChip(CFG).exchange(np.array(words, np.uint64)) & np.uint64(0xFFFF_FFFF)).tolist()


def test_the_clock_stands_still_while_nothing_happens_but_not_while_the_chip_works(
    board: BoardSimulator, client: Client
) -> None:
    client.hello(1)
    while True:
        before = board.cycles
        time.sleep(0.1)
        if board.cycles == before:
            break
    client.exchange(frame(Opcode.WRITE, at(Region.REGISTERS, 0x40), [5_000, 0, 0]), 0)
    [(flags, payload)] = packets(np.array(frame(Opcode.RUN, 0, [0] * CFG.pixel_words), np.uint64))
    start = board.cycles
    client.send(Packet(flags, sequence=1, payload=payload))
    while not client.receive(60.0).flags & Flag.LAST:
        pass
    assert board.cycles - start > 100_000


@pytest.mark.parametrize("wire", [False, True], ids=["bytes", "wire"])
def test_a_damaged_line_changes_no_answer(wire: bool) -> None:
    program = random_program(CFG, 3, chapters=2, samples=6, max_steps=8, everything=True)
    with (
        BoardSimulator(CFG, damage=0.01, wire=wire, seed=5) as board,
        closing(SerialBackend(CFG, board.device)) as line,
    ):
        compare(program, line.exchange(program.words), GoldenChip(CFG).exchange(program.words))
        counters = board.counters
        assert min(counters["damaged_to_board"], counters["damaged_from_board"]) > 10
        assert line.traffic.packets_repeated > 0


def test_a_killed_board_is_noticed_at_both_ends() -> None:
    with BoardSimulator(CFG) as board, closing(SerialBackend(CFG, board.device)) as line:
        assert board.running
        os.kill(board.pid, signal.SIGKILL)
        with pytest.raises(LinkLost):
            line.exchange(np.array(frame(Opcode.READ, at(Region.REGISTERS), [1]), np.uint64))
        with pytest.raises(BoardDied, match=r"killed by signal 9 \(SIGKILL\)"):
            board.wait()
        assert not board.running


def test_a_closed_board_is_gone_and_keeps_its_counts() -> None:
    with BoardSimulator(CFG) as board:
        Client(board.device).hello(1)
        device = board.device
    board.close()
    board.wait()
    assert not board.running
    assert board.counters["bytes_to_board"] > 10
    assert not os.path.exists(device)


def test_a_board_whose_parent_was_killed_ends() -> None:
    program = (
        "import sys, time; from rtl.config import ChipConfig; from testbench.board import BoardSimulator; "
        f"board = BoardSimulator(ChipConfig.from_json({CFG.to_json()!r})); print(board.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 10
    while time.monotonic() < end and _alive(pid):
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended counts as gone even if nobody asked for its exit code."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("name", "value"), [("divisor", 3), ("damage", 1.5), ("damage", -0.1), ("seed", -1)])
def test_bad_settings_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} = {value!r}: must"):
        BoardSimulator(CFG, **{name: value})


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_serves_a_board_until_it_is_interrupted() -> None:
    options = ["--layers", "4,5,2", "--option", "lanes=4", "--option", "learning=true", "--option", "neuron_lanes=1"]
    command = [sys.executable, "-m", "testbench.board", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        device = process.stdout.readline().strip()
        backend = SerialBackend(CFG, device)
        answer = backend.exchange(np.array(frame(Opcode.READ, at(Region.REGISTERS), [1]), np.uint64))
        backend.close()
        process.send_signal(signal.SIGINT)
        assert "bytes_to_board" in process.stdout.read()
    assert process.returncode == 0
    assert answer[1] == MAGIC


@pytest.mark.parametrize(
    "arguments",
    [
        ["--layers", "6"],
        ["--layers", "a,b"],
        ["--layers", "6,5", "--option", "lanes=3"],
        ["--layers", "6,5", "--damage", "2"],
    ],
)
def test_the_command_says_what_is_wrong_in_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("Error: ")


# ---- the host's chip on it ------------------------------------------------------------------------------------------


def network(cfg: ChipConfig, seed: int) -> Network:
    """Hidden neurons that fire by chance below a winner-take-all."""
    rng = np.random.default_rng(seed)
    return Network(
        weights=[rng.integers(-12, 13, shape) for shape in cfg.shapes],
        thresholds=0,
        biases=[rng.integers(0, 4, size) for size in cfg.neuron_layers],
        decay_syn=4096,
        decay_mem=4096,
        shift=0,
        reset="none",
        gate_centre=16,
        gate_window=32,
        fire=["stochastic"] * (len(cfg.neuron_layers) - 1) + ["winner"],
        fire_bits=5,
        noise="flat",
        noise_shift=3,
        gradient_bits=3,
        rate=32_768,
    )


def patience(backend: str) -> dict[str, Any]:
    """A simulated board on a busy machine may need long for an answer."""
    return {"timeout": 60.0} if is_serial(backend) else {}


def test_a_network_runs_and_learns_on_the_board_as_on_the_model(board: BoardSimulator) -> None:
    rng = np.random.default_rng(7)
    x, labels = rng.integers(0, 256, (12, CFG.n_in)).astype(np.uint8), rng.integers(0, CFG.n_out, 12)
    results = []
    for backend in (f"serial:{board.device}", "golden"):
        with Chip(CFG, backend=backend, **patience(backend)) as chip:
            chip.load(network(CFG, 1))
            before = chip.run(x, steps=10, seed=3)
            learned = chip.learn(x, labels, steps=10, seed=4)
            after = chip.run(x, steps=10, seed=5, record=("raster",))
            results.append((before, learned, after, chip.weights()))
    (here, learned_here, after_here, weights_here), (there, learned_there, after_there, weights_there) = results
    for a, b in ((here, there), (learned_here, learned_there), (after_here, after_there)):
        np.testing.assert_array_equal(a.cycles, b.cycles)
        np.testing.assert_array_equal(a.potential_sum, b.potential_sum)
        for mine, theirs in zip(a.counts, b.counts, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    for mine, theirs, begun in zip(weights_here, weights_there, network(CFG, 1).weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert (mine != begun).any()


@pytest.mark.parametrize("damage", [0.0, 0.002])
def test_trainings_through_a_board_end_as_in_the_simulator_and_on_the_model(damage: float) -> None:
    data = datasets.split("moons", 20, seed=0)
    ends = []
    with BoardSimulator(CFG, damage=damage, seed=2) as board:
        for backend in (f"serial:{board.device}", "sim", "golden"):
            with Chip(CFG, backend=backend, **patience(backend)) as chip:
                chain = MetropolisHastings(chip, steps=10, timesteps=8, seed=5).fit(data.x_train, data.y_train)
                descent = SpikeBackprop(chip, epochs=1, timesteps=8, seed=5).fit(data.x_train, data.y_train)
                ends.append([*chain.network_.weights, *descent.network_.weights, *chip.weights()])
    for on_board, simulated, modelled in zip(*ends, strict=True):
        np.testing.assert_array_equal(on_board, simulated)
        np.testing.assert_array_equal(on_board, modelled)


@pytest.mark.slow
def test_a_hundred_thousand_frames_survive_a_line_that_damages_one_byte_in_a_hundred(
    show: Callable[[str], None],
) -> None:
    totals, model, seed, start = Totals(), GoldenChip(CFG), 0, time.monotonic()
    with (
        BoardSimulator(CFG, divisor=4, damage=0.01, seed=11) as board,
        closing(SerialBackend(CFG, board.device)) as line,
    ):
        while totals.frames < 100_000:
            program = random_program(CFG, seed, chapters=2, samples=400, max_steps=6, everything=seed == 0)
            totals += compare(program, line.exchange(program.words), model.exchange(program.words))
            seed += 1
            if seed % 10 == 0:
                print(f"{totals.frames:,} frames after {time.monotonic() - start:,.0f} s", flush=True)
        memories = read_everything(CFG)
        compare(memories, line.exchange(memories.words), model.exchange(memories.words))
        counters, traffic = board.counters, line.traffic
    seconds = time.monotonic() - start
    show(
        f"board: {totals.frames:,} frames, {totals.learned:,} samples learned, "
        f"{counters['bytes_to_board']:,} bytes sent of which {counters['damaged_to_board']:,} were damaged, "
        f"{counters['bytes_from_board']:,} received of which {counters['damaged_from_board']:,} were damaged, "
        f"{traffic.packets_repeated:,} of {traffic.packets_sent:,} packets sent again, {seconds:,.0f} s: all equal"
    )
    assert counters["damaged_to_board"] > 10_000
