"""The self-test: that it passes good chips of all kinds, finds faults and says where, and its command."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serial_peer import peer
from typer.testing import CliRunner

from host import Chip, cli
from host.backends import open_backend
from host.errors import BackendError, ChipMismatch
from host.selftest import Check, read_config, selftest
from pymodel import GoldenChip
from pymodel.link import crc_of
from pymodel.serial import GoldenSerial
from rtl.config import ChipConfig
from rtl.registers import ANSWER, REGION_SHIFT, Opcode, Region

CFG = ChipConfig((12, 9, 4), lanes=4)
CHIPS = (
    CFG,
    ChipConfig((10, 7, 5, 3), lanes=4, weight_bits=6, learning=True, die_tables=False),
    ChipConfig((12, 9, 4), lanes=8, delay_slots=13),
    ChipConfig((12, 9, 4), delay_slots=9, axonal_delays=True, die_tables=False, trace=True),
    ChipConfig((70, 40, 33), lanes=32, binary_weights=True),
    ChipConfig((20, 40, 3), lanes=16, neuron_lanes=4, die_tables=False, bernoulli=False, receive_words=64),
    ChipConfig((3, 2), lanes=4, weight_bits=2, state_bits=8),
    ChipConfig((300, 64, 10), lanes=16, weight_bits=16, state_bits=32),
)
runner = CliRunner()


class Faulty(GoldenChip):
    """A golden chip with one fault."""

    died = ()

    def __init__(self, cfg: ChipConfig = CFG, **fault: Any) -> None:
        super().__init__(cfg)
        self.fault = fault

    def exchange(self, words: np.ndarray) -> np.ndarray:
        words = words.copy()
        opcode, region = int(words[0]) >> 24 & 0xFF, int(words[1]) >> REGION_SHIFT
        answer = super().exchange(words)
        fault = self.fault
        if opcode == Opcode.READ and region == fault.get("region"):
            at = fault["word"] - (int(words[1]) & 0xFFFFFF) + 1
            if 1 <= at < len(answer) - 1:
                answer[at] = (int(answer[at]) | fault.get("stuck", 0)) & ~fault.get("dead", 0)
        if "answer" in fault:
            starts = np.concatenate([[0], np.flatnonzero(answer >> np.uint64(32))[:-1] + 1])
            runs = starts[answer[starts] >> np.uint64(24) == Opcode.RUN | ANSWER]
            answer[runs + fault["answer"]] += np.uint64(1)
        return self.sealed(answer)

    @staticmethod
    def sealed(answers: np.ndarray) -> np.ndarray:
        """With the CRCs that these words have."""
        ends = np.flatnonzero(answers >> np.uint64(32))
        starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
        answers[ends] = crc_of(answers.astype(np.uint32), starts, ends).astype(np.uint64) | np.uint64(1 << 32)
        return answers


def wrong(checks: Iterable[Check]) -> dict[str, str]:
    return {check.name: check.found for check in checks if not check.ok}


@pytest.mark.parametrize("cfg", CHIPS, ids=lambda cfg: "-".join(map(str, cfg.layers)))
def test_good_chips_pass_every_check_and_tell_what_they_are(cfg: ChipConfig) -> None:
    assert read_config(GoldenChip(cfg)) == cfg
    checks = list(selftest(GoldenChip(cfg), quick=True))
    assert not wrong(checks)
    names = [check.name for check in checks]
    assert names[:5] == ["link", "registers", "memory WEIGHTS", "memory THRESHOLD", "memory BIAS"]
    assert ("learning" in names) == cfg.learning
    assert ("memory DELAYS" in names) == (cfg.delay_slots > 0)
    assert ("distorted network" in names) == cfg.die_tables
    spikes = next(check.found for check in checks if check.name == "network")
    assert int(re.search(r"([\d,]+) spikes", spikes)[1].replace(",", "")) > 20  # type: ignore[index]


def test_a_large_memory_is_tested_as_a_whole_unless_time_is_short() -> None:
    cfg = ChipConfig((200, 100, 10), lanes=8, die_tables=False)
    found = {
        quick: next(check.found for check in selftest("golden", cfg, quick=quick) if check.name == "memory WEIGHTS")
        for quick in (False, True)
    }
    assert "all 5,600 words" in found[False]
    assert "1,024 of 5,600 words" in found[True]


@pytest.mark.parametrize(
    ("fault", "check", "found"),
    [
        ({"region": 0, "word": 0x40, "stuck": 8}, "registers", "register STEPS: the chip said 0x00000009, the model"),
        ({"region": 0, "word": 0x95, "dead": 64}, "registers", r"register L1_REFRACTORY: the chip said 0x\w+, the"),
        ({"region": 1, "word": 0, "stuck": 1}, "memory WEIGHTS", r"WEIGHTS \+ 0x0: the chip said 0x\w{8}, the model"),
        ({"region": 1, "word": 39, "dead": 1 << 31}, "memory WEIGHTS", r"WEIGHTS \+ 0x27: the chip said"),
        ({"region": 3, "word": 15, "dead": 4}, "memory THRESHOLD", r"THRESHOLD \+ 0xF: the chip said"),
        ({"answer": 1}, "network", r"cycles, at \[0\]: the chip said \d+, the model says \d+; 32 values differ$"),
        ({"answer": 4}, "network", r"counts, layer 0, at \[0, 1\]: the chip said \d+, the model says \d+"),
    ],
)  # fmt: skip
def test_faults_are_found_where_they_are(fault: dict[str, int], check: str, found: str) -> None:
    cfg = ChipConfig((12, 9, 4), lanes=4, die_tables=False)
    failed = wrong(selftest(Faulty(cfg, **fault), cfg))
    assert check in failed
    assert re.search(found, failed[check])
    assert failed.keys() <= {check, "speed", "learning"}


def test_weights_that_are_learned_wrongly_are_found() -> None:
    class Overeager(GoldenChip):
        """Changes one weight more than the rule says, whenever it has learned."""

        def _sample_frames(self, *arguments: Any) -> np.ndarray:
            answers = super()._sample_frames(*arguments)
            if int(answers[0]) >> 24 == Opcode.LEARN | ANSWER:
                self._store(Region.WEIGHT, np.array([4]), np.array([31]))
            return answers

    cfg = CHIPS[1]
    failed = wrong(selftest(Overeager(cfg), cfg, quick=True))
    assert failed.keys() == {"learning"}
    assert re.search(r"weights after it, layer 0, at \[0, 4\]: the chip said 31, the model says", failed["learning"])


def test_a_chip_that_refuses_fails_the_check_and_the_others_go_on() -> None:
    class Deaf(GoldenChip):
        def exchange(self, words: np.ndarray) -> np.ndarray:
            if int(words[1]) == Region.BIAS << REGION_SHIFT:
                words = words.copy()
                words[2] ^= np.uint64(1)
            return super().exchange(words)

    checks = list(selftest(Deaf(CFG), CFG, quick=True))
    assert wrong(checks).keys() >= {"memory BIAS"}
    assert "refused WRITE at BIAS + 0x0 with BAD_CRC" in wrong(checks)["memory BIAS"]
    assert {check.name: check.ok for check in checks}["memory THRESHOLD"]


def test_the_chip_holds_a_valid_network_afterwards() -> None:
    chip = GoldenChip(CFG)
    list(selftest(chip, CFG, quick=True))
    with Chip(CFG, chip) as after:
        weights = after.weights()
    assert all(np.abs(matrix).max() <= 128 for matrix in weights)
    assert len({*weights[0].ravel().tolist()}) > 20


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(BackendError, match="needs a configuration, only a chip at a serial port knows its own"):
        next(selftest("golden"))
    with pytest.raises(ChipMismatch, match="LANES holds 4, expected 8"):
        next(selftest(GoldenChip(CFG), ChipConfig((12, 9, 4), lanes=8)))
    with pytest.raises(ChipMismatch, match="MAGIC and VERSION hold 0x53504B4D and 1"):
        next(selftest(Faulty(region=0, word=0, stuck=1)))
    with pytest.raises(ChipMismatch, match=r"describe no chip: ChipConfig\.lanes = 7"):
        next(selftest(Faulty(region=0, word=3, stuck=3)))


# ---- the command ----------------------------------------------------------------------------------------------------


def test_a_board_is_asked_what_it_is_and_passes() -> None:
    cfg = CHIPS[1]
    list(selftest("golden", cfg, quick=True))  # compiles what the board's chip needs before a host waits for it
    with peer(GoldenSerial(cfg, clock_hz=48_000_000).receive) as line:
        backend, _ = open_backend(f"serial:{line.device}@4000000", CFG)
        assert read_config(backend) == cfg
        backend.close()
        result = runner.invoke(cli.app, ["selftest", "--backend", f"serial:{line.device}@4000000", "--quick"])
    assert result.exit_code == 0, result.output + result.stderr
    for text in ("4000000 baud", "clock 48 MHz", "learning", "samples/s", "packets received were damaged"):
        assert text in re.sub(r"[\s│]+", " ", result.output)


def test_a_chip_with_a_fault_exits_with_1_and_shows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymodel.chip.GoldenChip", lambda cfg: Faulty(cfg, region=3, word=2, stuck=1))
    result = runner.invoke(cli.app, ["selftest", "--layers", "12,9,4", "--lanes", "4", "--quick"])
    assert result.exit_code == 1
    assert "wrong" in result.output
    assert "THRESHOLD + 0x2" in result.output


def test_the_options_say_what_the_chip_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("host.selftest.selftest", lambda backend, cfg, **_: asked.append(cfg) or ())
    arguments = ["selftest", "--layers", "12,9,4", "--neuron-lanes", "2", "--no-die-tables", "--no-bernoulli"]
    assert runner.invoke(cli.app, arguments).exit_code == 0
    assert asked == [ChipConfig((12, 9, 4), neuron_lanes=2, die_tables=False, bernoulli=False)]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda sent: b"", "nothing answers at the serial port"),
        (lambda sent: sent, "gives back what is sent"),
        (lambda sent: b"ok\r\n", "something else than a spikeloop chip answers"),
    ],
    ids=["silent", "echo", "console"],
)
def test_a_port_without_a_chip_exits_with_2_and_a_sentence(answer: Any, sentence: str) -> None:
    with peer(answer) as line:
        result = runner.invoke(cli.app, ["selftest", "--backend", f"serial:{line.device}@4000000"])
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_link_that_is_lost_in_the_middle_exits_with_2_and_shows_what_was_done() -> None:
    bridge = GoldenSerial(CFG)
    list(selftest("golden", CFG, quick=True))
    calls = [0]

    def dies(sent: bytes) -> bytes:
        calls[0] += 1
        return bridge.receive(sent) if calls[0] < 150 else b""

    with peer(dies) as line:
        arguments = ["selftest", "--backend", f"serial:{line.device}@4000000", "--timeout", "0.3", "--quick"]
        result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 2, result.output
    assert "registers" in result.output
    assert re.fullmatch(r"Error: the serial link .*\n", result.stderr)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--backend", "serial:/dev/nowhere"], "there is no serial port /dev/nowhere: there "),
        (["--backend", "serial"], "must name a serial port"),
        (["--backend", "serial:/dev/nowhere", "--timeout", "0"], "timeout = 0.0: must be a number of seconds above 0"),
        (["--backend", "fpga"], 'must be "golden"'),
        (["--backend", "golden", "--timeout", "3"], "has no options"),
        (["--layers", "3"], "ChipConfig.layers"),
        (["--config", "nowhere.json"], "Cannot read the configuration"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(cli.app, ["selftest", *arguments])
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_board_of_another_configuration_exits_with_2() -> None:
    with peer(GoldenSerial(CFG).receive) as line:
        arguments = ["selftest", "--backend", f"serial:{line.device}@4000000", "--layers", "12,9,4", "--lanes", "8"]
        result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert "register LANES holds 4, expected 8" in result.stderr
