"""Metropolis-Hastings training with the chip in the loop.

The chip is a black box: weights go in, output spike counts come out. A Markov chain over the integer weights has the
posterior as its stationary distribution (Safa et al., "Towards chip-in-the-loop spiking neural network training via
Metropolis-Hastings sampling", NICE 2024, arXiv 2402.06284; the paper's outline, the constants are ours)::

    log posterior(w) = sum_n log softmax(beta * counts_n)[y_n] - |w|^2 / (2 prior_sd^2)

One proposal adds ``round(N(0, width^2))`` to `block` random weights. A weight that leaves its range rejects the
proposal unseen; otherwise it is accepted with probability ``min(1, posterior ratio)``. The width adapts to the target
acceptance during the burn-in only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from host.trainers.base import (
    Callback,
    FloatArray,
    IntArray,
    Neuron,
    Progress,
    StopTraining,
    VectorClassifier,
    add_cost,
    chip_totals,
    log_softmax,
    require_choice,
    require_number,
)
from host.trainers.checkpoint import CheckpointError, State
from host.trainers.port import ParameterPort

if TYPE_CHECKING:
    from host.chip import Chip
    from host.network import Network

READ_OUTS = ("best", "vote", "mean", "last", "map")
ADAPT_EVERY = 50
"""Proposals between two adaptations of the width."""
ADAPT_RATE = 0.6
WIDTH_LIMITS = (0.6, 64.0)


class MetropolisHastings(VectorClassifier):
    """Samples integer weights and biases from their posterior by presenting the training set to the chip.

    Parameters
    ----------
    chip : Chip
        The chip to train on; only its output counts are used.
    steps : int
        Proposals.
    beta : float
        Inverse temperature of the read-out, nats per spike.
    prior_sd, start_sd : float
        Standard deviation of the Gaussian prior and of the start, in weight units. Use 64 for both when the chip may
        be weak or silent at the start (a silent chip gives a flat likelihood).
    block, width : int, float
        Weights changed by a proposal, and the standard deviation of the change at the start.
    target_acceptance : float
        Share of accepted proposals that the burn-in tunes the width for.
    burn_in : float
        Share of `steps` that is not averaged over.
    greedy : bool
        Baseline: accept only what improves the posterior, at fixed width.
    read_out : {"best", "vote", "mean", "last", "map"}
        Network(s) used for predictions: highest likelihood seen (ties: higher posterior), `n_votes` samples evenly
        spaced after the burn-in, the rounded average after the burn-in, the last sample, the highest posterior seen.
        The average is usually the worst of them: the posterior has many modes and their mean need not be good.
    remeasure : bool
        Present the training set with the current weights again for every proposal (twice the cost). Needed on a noisy
        chip, where the chain otherwise gets stuck on one lucky measurement.
    fresh_seeds : bool
        Give every presentation a random seed of its own, as noise of real hardware would. ``False`` repeats the same
        random numbers, which makes a Bernoulli encoding deterministic.
    encoding, timesteps : str, int
        How intensities become spikes ("rate" or "bernoulli"), and steps of a presentation.
    neuron : Neuron or mapping, optional
        Constants of the neurons.
    seed : int
        Seed of start, proposals and presentations.

    Attributes
    ----------
    samples_ : dict of int64 arrays (n_parameters,)
        "best", "map", "mean" and "last".
    votes_ : int64 array (n, n_parameters)
        Evenly spaced samples after the burn-in.
    history_ : dict of arrays (steps,)
        step, log_likelihood (per sample), log_posterior, accuracy, accepted, width, best_log_likelihood.
    """

    def __init__(
        self,
        chip: Chip,
        steps: int = 4000,
        *,
        beta: float = 0.5,
        prior_sd: float = 32.0,
        start_sd: float = 24.0,
        block: int = 4,
        width: float = 24.0,
        target_acceptance: float = 0.3,
        burn_in: float = 0.5,
        greedy: bool = False,
        read_out: str = "best",
        n_votes: int = 20,
        remeasure: bool = False,
        fresh_seeds: bool = True,
        encoding: str = "rate",
        timesteps: int = 32,
        neuron: Neuron | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            chip,
            beta=beta,
            prior_sd=prior_sd,
            start_sd=start_sd,
            encoding=encoding,
            timesteps=timesteps,
            neuron=neuron,
            seed=seed,
        )
        self.steps = steps
        self.block = block
        self.width = width
        self.target_acceptance = target_acceptance
        self.burn_in = burn_in
        self.greedy = greedy
        self.read_out = read_out
        self.n_votes = n_votes
        self.remeasure = remeasure
        self.fresh_seeds = fresh_seeds

    _training: _Chain
    _free_on_resume = ("read_out", "n_votes")

    # ---- training

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        initial: Network | ArrayLike | None = None,
        resume: State | None = None,
        callback: Callback | None = None,
    ) -> MetropolisHastings:
        """Run the chain.

        Parameters
        ----------
        X : (N, n_in) uint8 intensities
        y : (N,) labels
        initial : network or parameter vector to start from (for example backprop weights); drawn if ``None``
        resume : state of an interrupted training (:meth:`state_dict`); the chain goes on as if never interrupted
        callback : called every few proposals; may raise :class:`StopTraining`
        """
        x, labels, classes = self._prepare(X, y)
        if resume is None:
            chain = self._first(x, labels, initial)
        else:
            self._check_resume(resume, self._meta(x, labels))
            chain = _Chain.from_state(resume, self._map.size)
        self._begin(chain, classes)
        return self._run(x, labels, callback)

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, *, steps: int = 1000, callback: Callback | None = None
    ) -> MetropolisHastings:
        """Continue the chain for `steps` more proposals at its present width; starts it if there is none."""
        require_number("steps", steps, 1, integer=True)
        if not hasattr(self, "_training"):
            return self.fit(X, y, callback=callback)
        x, labels, classes = self._prepare(X, y)
        self._check_resume(self.state_dict(), self._meta(x, labels))
        self._begin(self._training, classes)
        self._training.extend(int(steps))
        return self._run(x, labels, callback)

    def _check_settings(self) -> None:
        require_number("steps", self.steps, 1, integer=True)
        require_number("block", self.block, 1, self._map.size, integer=True)
        require_number("width", self.width, *WIDTH_LIMITS)
        require_number("target_acceptance", self.target_acceptance, 0.01, 0.99)
        require_number("burn_in", self.burn_in, 0, 0.99)
        require_number("n_votes", self.n_votes, 1, integer=True)
        require_choice("read_out", self.read_out, READ_OUTS)
        require_choice("encoding", self.encoding, ("rate", "bernoulli"))

    def _first(self, x: NDArray[np.uint8], labels: IntArray, initial: Network | ArrayLike | None) -> _Chain:
        """A chain that knows how good its start is."""
        start = self._start(initial)
        before = chip_totals(self.chip)
        self.chip.load(self.network_of(start))
        counts = self._present(x, 0)
        log_likelihood, accuracy = self._judge(counts, labels)
        total = int(self.steps)
        burn_end = int(self.burn_in * total)
        chain = _Chain(
            start,
            log_likelihood,
            accuracy,
            self._log_prior(start),
            np.random.default_rng([int(self.seed), 0x4D48]),
            total=total,
            burn_end=burn_end,
            spacing=max(1, (total - burn_end) // int(self.n_votes)),
            width=float(self.width),
        )
        chain.cost = add_cost(before, chip_totals(self.chip))
        return chain

    def _run(self, x: NDArray[np.uint8], labels: IntArray, callback: Callback | None) -> MetropolisHastings:
        chain = self._training
        self._identity = self._meta(x, labels)
        port = ParameterPort(self.chip, self._map, Neuron.of(self.neuron))
        port.load(chain.current)
        start = before = chip_totals(self.chip)
        earlier = dict(chain.cost)
        every = max(1, min(25, chain.total // 40))
        self._stale = np.empty(0, dtype=np.int64)
        try:
            while chain.step < chain.total:
                drawn, evaluations = chain.rng.bit_generator.state, chain.evaluations
                try:
                    self._advance(chain, port, x, labels)
                except BaseException:
                    # An interrupted proposal leaves the chain as it was before it.
                    chain.rng.bit_generator.state, chain.evaluations = drawn, evaluations
                    raise
                before = chip_totals(self.chip)
                chain.cost = add_cost(start, before, earlier)
                if callback is not None and (chain.step % every == 0 or chain.step == chain.total):
                    callback(self._progress(chain, len(labels)))
        except StopTraining:
            pass
        self._finish(chain)
        return self

    def _advance(self, chain: _Chain, port: ParameterPort, x: NDArray[np.uint8], labels: IntArray) -> None:
        """One proposal: draw, write what changed, present the training set, accept or reject."""
        limit, rng = port.map.limit, chain.rng
        chosen = rng.choice(port.map.size, int(self.block), replace=False, shuffle=False)
        moved = chain.current[chosen] + np.rint(rng.normal(0.0, chain.width, len(chosen))).astype(np.int64)
        threshold = np.log1p(-rng.random())  # log of a uniform number in (0, 1]
        log_likelihood, accuracy = chain.log_likelihood, chain.accuracy
        if self.remeasure:
            port.change(chain.current, self._stale)
            self._stale = chosen[:0]
            chain.evaluations += 1
            log_likelihood, accuracy = self._judge(self._present(x, chain.evaluations), labels)
        accepted = False
        new: tuple[float, float, float] | None = None
        if np.abs(moved).max() <= limit:
            candidate = chain.current.copy()
            candidate[chosen] = moved
            touched = np.concatenate([self._stale, chosen])
            self._stale = touched  # until accepted, all of these may differ from the chain's state
            port.change(candidate, touched)
            chain.evaluations += 1
            likelihood, share = self._judge(self._present(x, chain.evaluations), labels)
            prior = self._log_prior(candidate)
            delta = likelihood + prior - log_likelihood - chain.log_prior
            accepted = bool(delta > 0.0 if self.greedy else delta >= threshold)
            self._stale = chosen[:0] if accepted else chosen
            new = likelihood, share, prior
        # From here on nothing can fail: commit.
        chain.log_likelihood, chain.accuracy = log_likelihood, accuracy
        if new is not None:
            chain.consider_best(candidate, new[0], new[0] + new[2], new[1])
            if accepted:
                chain.current = candidate
                chain.log_likelihood, chain.accuracy, chain.log_prior = new
        chain.record(accepted, len(labels))
        if not self.greedy:
            chain.adapt(float(self.target_acceptance))

    def _finish(self, chain: _Chain) -> None:
        mean = chain.mean_sum / chain.mean_n if chain.mean_n else chain.current.astype(float)
        self.samples_ = {
            "best": chain.best.copy(),
            "map": chain.map.copy(),
            "mean": np.rint(mean).astype(np.int64),
            "last": chain.current.copy(),
        }
        votes = np.array(chain.votes) if chain.votes else chain.current[None, :].copy()
        self.votes_ = votes
        self.history_ = chain.columns()
        self.acceptance_ = float(np.mean(chain.accepted)) if chain.accepted else 0.0
        self.cost_ = dict(chain.cost)

    def _progress(self, chain: _Chain, n_samples: int) -> Progress:
        recent = chain.accepted[-200:]
        return Progress(
            chain.step,
            chain.total,
            chain.log_likelihood / n_samples,
            chain.accuracy,
            float(np.mean(recent)),
            chain.best_accuracy,
        )

    # ---- arithmetic of the chain

    def _present(self, x: NDArray[np.uint8], evaluation: int) -> NDArray[np.int32]:
        """Output counts (N, n_out) of what the chip holds now, in presentation number `evaluation`."""
        seed = int(self.seed) + (evaluation * 0x9E3779B1 if self.fresh_seeds else 0)
        return self.present(x, seed & 0xFFFF_FFFF).counts[-1]

    def _judge(self, counts: NDArray[np.int32], labels: IntArray) -> tuple[float, float]:
        """Log-likelihood of the labels, summed over samples, and accuracy."""
        log_p = log_softmax(float(self.beta) * counts.astype(np.float64))
        share = float(np.mean(np.argmax(counts, axis=1) == labels))
        return float(log_p[np.arange(len(labels)), labels].sum()), share

    def _log_prior(self, vector: IntArray) -> float:
        return -float(vector @ vector) / (2.0 * float(self.prior_sd) ** 2)

    # ---- prediction

    def _candidates(self) -> list[IntArray]:
        self._check_fitted()
        require_choice("read_out", self.read_out, READ_OUTS)
        if self.read_out != "vote":
            return [self.samples_[self.read_out]]
        picked = np.unique(np.linspace(0, len(self.votes_) - 1, min(int(self.n_votes), len(self.votes_))).round())
        return [self.votes_[int(index)] for index in picked]


class _Chain:
    """State of one Markov chain; converts to and from a checkpoint without loss."""

    _SCALARS = (
        "log_likelihood",
        "accuracy",
        "log_prior",
        "width",
        "step",
        "total",
        "burn_end",
        "spacing",
        "evaluations",
        "window",
        "best_log_likelihood",
        "best_log_posterior",
        "best_accuracy",
        "map_log_posterior",
        "mean_n",
        "cost",
    )
    _HISTORY = ("log_likelihoods", "log_posteriors", "accuracies", "accepted", "widths", "bests")

    def __init__(
        self,
        current: IntArray,
        log_likelihood: float,
        accuracy: float,
        log_prior: float,
        rng: np.random.Generator,
        *,
        total: int,
        burn_end: int,
        spacing: int,
        width: float,
    ) -> None:
        self.current, self.log_likelihood, self.accuracy, self.log_prior = current, log_likelihood, accuracy, log_prior
        self.rng, self.total, self.burn_end, self.spacing, self.width = rng, total, burn_end, spacing, width
        self.step = self.evaluations = self.window = self.mean_n = 0
        self.best = self.map = current.copy()
        self.best_log_likelihood, self.best_accuracy = log_likelihood, accuracy
        self.best_log_posterior = self.map_log_posterior = log_likelihood + log_prior
        self.mean_sum: FloatArray = np.zeros(len(current))
        self.votes: list[IntArray] = []
        self.cost: dict[str, int] = {}
        self.log_likelihoods: list[float] = []
        self.log_posteriors: list[float] = []
        self.accuracies: list[float] = []
        self.accepted: list[bool] = []
        self.widths: list[float] = []
        self.bests: list[float] = []

    def extend(self, steps: int) -> None:
        self.total = self.step + steps

    def consider_best(self, vector: IntArray, log_likelihood: float, log_posterior: float, accuracy: float) -> None:
        """Keep the highest likelihood (ties: higher posterior) and the highest posterior seen, accepted or not."""
        if (log_likelihood, log_posterior) > (self.best_log_likelihood, self.best_log_posterior):
            self.best, self.best_accuracy = vector.copy(), accuracy
            self.best_log_likelihood, self.best_log_posterior = log_likelihood, log_posterior
        if log_posterior > self.map_log_posterior:
            self.map, self.map_log_posterior = vector.copy(), log_posterior

    def record(self, accepted: bool, n_samples: int) -> None:
        """Count one finished proposal; on rejection the present state counts again."""
        self.step += 1
        self.window += accepted
        if self.step > self.burn_end:
            self.mean_sum += self.current
            self.mean_n += 1
            if (self.step - self.burn_end) % self.spacing == 0:
                self.votes.append(self.current.copy())
        self.log_likelihoods.append(self.log_likelihood / n_samples)
        self.log_posteriors.append(self.log_likelihood + self.log_prior)
        self.accuracies.append(self.accuracy)
        self.accepted.append(accepted)
        self.widths.append(self.width)
        self.bests.append(self.best_log_likelihood / n_samples)

    def adapt(self, target: float) -> None:
        """Tune the proposal width, in the burn-in only (afterwards a chain must not depend on its own past)."""
        if self.step % ADAPT_EVERY:
            return
        if self.step <= self.burn_end:
            factor = np.exp(ADAPT_RATE * (self.window / ADAPT_EVERY - target))
            self.width = float(np.clip(self.width * factor, *WIDTH_LIMITS))
        self.window = 0

    def columns(self) -> dict[str, NDArray[Any]]:
        return {
            "step": np.arange(1, self.step + 1),
            "log_likelihood": np.array(self.log_likelihoods),
            "log_posterior": np.array(self.log_posteriors),
            "accuracy": np.array(self.accuracies),
            "accepted": np.array(self.accepted, dtype=np.int8),
            "width": np.array(self.widths),
            "best_log_likelihood": np.array(self.bests),
        }

    def to_state(self) -> State:
        meta = {"chain": {name: getattr(self, name) for name in self._SCALARS}, "rng": self.rng.bit_generator.state}
        arrays = {name: np.array(getattr(self, name)) for name in self._HISTORY}
        arrays["votes"] = np.array(self.votes, dtype=np.int32).reshape(len(self.votes), len(self.current))
        arrays |= {name: getattr(self, name) for name in ("current", "best", "map", "mean_sum")}
        return State(meta, arrays)

    @classmethod
    def from_state(cls, state: State, size: int) -> _Chain:
        try:
            scalars, arrays = state.meta["chain"], state.arrays
            rng = np.random.default_rng()
            rng.bit_generator.state = state.meta["rng"]
            chain = cls(
                arrays["current"], 0.0, 0.0, 0.0, rng, total=0, burn_end=0, spacing=1, width=float(scalars["width"])
            )
            for name in cls._SCALARS:
                setattr(chain, name, scalars[name])
            for name in ("best", "map", "mean_sum"):
                setattr(chain, name, arrays[name].copy())
            for name in cls._HISTORY:
                setattr(chain, name, arrays[name].tolist())
            chain.votes = list(arrays["votes"].astype(np.int64))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"The checkpoint lacks parts of the chain ({error}).") from None
        shapes = {chain.current.shape, chain.best.shape, chain.map.shape, chain.mean_sum.shape}
        if shapes != {(size,)} or len(chain.accepted) != chain.step:
            raise CheckpointError("The checkpoint's arrays do not fit this chip configuration.")
        return chain
