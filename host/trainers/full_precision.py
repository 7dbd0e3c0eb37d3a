"""The network of the binary trainers with real weights, computed on the host: what a bit per synapse costs."""

from __future__ import annotations

from collections.abc import Sequence

from host.trainers.binary import CountClassifier


class FullPrecision(CountClassifier):
    """The same neurons, read-out, loss and gradients in floating point, without rounding and without a chip.

    Parameters
    ----------
    layers : sequence of int
        Number of inputs, then of neurons of each layer.
    learning_rate : float
        Of Adam at the start; it falls to zero along a cosine.
    epochs, batch_size, ... :
        As in :class:`BinaryStraightThrough`; with both read-outs of rasters the gates are the network's own.

    Attributes
    ----------
    latent_ : list of float arrays (n_pre, n_post), the weights
    """

    def __init__(
        self,
        layers: Sequence[int],
        epochs: int = 60,
        *,
        batch_size: int = 64,
        read_out: str = "raster+gate",
        gradient: str = "bptt",
        timesteps: int = 25,
        encoding: str = "rate",
        gain: float = 20.0,
        learning_rate: float = 0.01,
        shift: int = 6,
        reset_size: int | Sequence[int] | None = None,
        window: float = 1.0,
        n_classes: int | None = None,
        temperature: str | float = "none",
        validation_fraction: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            epochs,
            batch_size=batch_size,
            read_out=read_out,
            gradient=gradient,
            timesteps=timesteps,
            encoding=encoding,
            gain=gain,
            shift=shift,
            reset_size=reset_size,
            window=window,
            n_classes=n_classes,
            temperature=temperature,
            validation_fraction=validation_fraction,
            seed=seed,
        )
        self.layers = layers
        self.learning_rate = learning_rate
