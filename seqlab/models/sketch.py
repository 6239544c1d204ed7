"""Networks that draw: each step of the pen as a mixture density, from all steps so far.

A step is (Δx, Δy, pen), the pen one-hot: is it down after the step, is it up, is the drawing over.
Before the first step stands (0, 0, down). Source: Ha and Eck 2017, sections 3.1 to 3.3.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from seqlab.models import mixture
from seqlab.models.rnn import Stack, dropout, symmetric_uniform
from seqlab.models.seq2seq import Bridge
from seqlab.models.sequence import FrameEmbedding

STEP = 2 + mixture.PENS  # numbers of a step


class Posterior(NamedTuple):
    """q(z | drawing) = N(μ, σ²), of independent numbers.

    Attributes:
        mean: μ.
        log_variance: log σ².
    """

    mean: Float[Array, "B Z"]
    log_variance: Float[Array, "B Z"]


class Sketcher(nn.Module):
    """p(step | steps so far) = mixture(y_t W + b), y = stack([steps, z] W_e + b_e).

    Without z it is unconditional: it models the drawings it is trained on.

    Attributes:
        stack: layers of one direction.
        width: what a step is embedded to; MUT1 and MUT2 need it equal to their units.
        num_components: M.
    """

    stack: Stack
    width: int
    num_components: int

    def initial_carry(self, batch_size: int) -> Any:
        return self.stack.initial_carry(batch_size)

    @nn.compact
    def __call__(
        self,
        steps: Float[Array, "B T 5"],
        carry: Any = None,
        z: Float[Array, "B Z"] | None = None,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, Float[Array, "B T K"]]:
        """The carry, and the numbers that `mixture.split` makes a density of."""
        init = symmetric_uniform(self.width)
        if z is not None:
            beside = jnp.broadcast_to(z[:, None], (*steps.shape[:2], z.shape[1]))
            steps = jnp.concatenate([steps, beside], axis=-1)
        xs = nn.Dense(self.width, kernel_init=init, name="embedding")(steps)
        if dropout_rate is not None:
            xs = dropout(self.make_rng("dropout"), dropout_rate, xs)
        carry, ys = self.stack(xs, carry, dropout_rate=dropout_rate)
        said = nn.Dense(mixture.outputs(self.num_components), kernel_init=init, name="head")(ys)
        return carry, said


class Unconditional(nn.Module):
    """A sketcher conditioned on nothing but the steps so far.

    Attributes:
        sketcher: what draws.
    """

    sketcher: Sketcher

    def __call__(
        self,
        given: Float[Array, "B T 5"],
        drawings: Float[Array, "B S 5"],
        lengths: Int[Array, " B"],
        noise: None = None,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Float[Array, "B T K"], None]:
        """The numbers of a density for each step that follows one that is given."""
        _, said = self.sketcher(given, dropout_rate=dropout_rate)
        return said, None

    def begin(self, z: Float[Array, "B Z"]) -> Any:
        """The carry before the first step; z has no part in it."""
        return self.sketcher.initial_carry(z.shape[0])

    def step(
        self, carry: Any, steps: Float[Array, "B 5"], z: Float[Array, "B Z"]
    ) -> tuple[Any, Float[Array, "B K"]]:
        carry, said = self.sketcher(steps[:, None], carry)
        return carry, said[:, 0]


class SketchVAE(nn.Module):
    """A sketcher conditioned on a latent z of Z numbers, which the encoder infers:

        h = encoder(drawing),  μ = h W_μ + b_μ,  log σ² = h W_σ + b_σ
        z = μ + σ ε,  first carry = tanh(z W_z + b_z)

    Attributes:
        encoder: recurrent layers of both directions.
        width: what a step that is read is embedded to; MUT1 and MUT2 need it equal to their units.
        sketcher: what draws; z is part of its input at every step.
        num_latents: Z.
    """

    encoder: Stack
    width: int
    sketcher: Sketcher
    num_latents: int

    def setup(self):
        # The paper's 0.001: at the beginning every drawing is nearly the prior.
        near_zero = nn.initializers.normal(1e-3)
        self.embedding = FrameEmbedding(self.width)
        self.mean = nn.Dense(self.num_latents, kernel_init=near_zero)
        self.log_variance = nn.Dense(self.num_latents, kernel_init=near_zero)
        self.bridge = Bridge()

    def __call__(
        self,
        given: Float[Array, "B T 5"],
        drawings: Float[Array, "B S 5"],
        lengths: Int[Array, " B"],
        noise: Float[Array, "B Z"],
        dropout_rate: Array | float | None = None,
    ) -> tuple[Float[Array, "B T K"], Posterior]:
        """The parameters of a density for each step, and the posterior that z is sampled from."""
        posterior = self.encode(drawings, lengths, dropout_rate)
        z = posterior.mean + jnp.exp(0.5 * posterior.log_variance) * noise
        _, said = self.sketcher(given, self.begin(z), z, dropout_rate)
        return said, posterior

    def encode(
        self,
        drawings: Float[Array, "B S 5"],
        lengths: Int[Array, " B"],
        dropout_rate: Array | float | None = None,
    ) -> Posterior:
        xs = self.embedding(drawings, lengths, dropout_rate)
        _, ys = self.encoder(xs, lengths=lengths, dropout_rate=dropout_rate)
        summary = self.encoder.final(ys, lengths)
        return Posterior(self.mean(summary), self.log_variance(summary))

    def begin(self, z: Float[Array, "B Z"]) -> Any:
        """The carry before the first step."""
        return self.bridge(z, self.sketcher.initial_carry(z.shape[0]))

    def step(
        self, carry: Any, steps: Float[Array, "B 5"], z: Float[Array, "B Z"]
    ) -> tuple[Any, Float[Array, "B K"]]:
        carry, said = self.sketcher(steps[:, None], carry, z)
        return carry, said[:, 0]


def num_latents(model: Unconditional | SketchVAE) -> int:
    """Z; 0 where nothing is told."""
    return model.num_latents if isinstance(model, SketchVAE) else 0


def first_steps(batch_size: int) -> Float[Array, "B 5"]:
    """What stands before the first step: no offset, the pen down."""
    pens = jax.nn.one_hot(jnp.zeros(batch_size, jnp.int32), mixture.PENS)
    return jnp.concatenate([jnp.zeros((batch_size, 2)), pens], axis=-1)
