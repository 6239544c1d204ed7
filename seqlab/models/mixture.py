"""The density of a drawing's next step: a mixture of 2-D Gaussians, and the pen's state.

    p(Δ) = Σ_m π_m N(Δ; μ_m, Σ_m),   Σ_m of the deviations σ and the correlation ρ
    p(pen) = softmax(q): down, up, or the drawing is over

M is the number of Gaussians. Source: Graves 2013, section 4.1; Ha and Eck 2017, equations 3 to 8.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from seqlab.losses import LOG_2_PI

PENS = 3  # down, up, end
# Wider than anything learnt, and narrow enough for float32: the density and its gradient are finite
# whatever the network outputs.
LOG_DEVIATION = -10.0, 10.0
CORRELATION = 5.0  # before tanh: |ρ| ≤ 0.9999


class Mixture(NamedTuple):
    """The density of the next step.

    Attributes:
        weights: log π.
        means: μ, in the unit of the offsets.
        log_deviations: log σ.
        correlations: artanh ρ.
        pens: q, logits.
    """

    weights: Float[Array, "*N M"]
    means: Float[Array, "*N M 2"]
    log_deviations: Float[Array, "*N M 2"]
    correlations: Float[Array, "*N M"]
    pens: Float[Array, "*N 3"]


def outputs(num_components: int) -> int:
    """How many outputs a network needs: 6 for each Gaussian, and 3 for the pen."""
    return 6 * num_components + PENS


def split(said: Float[Array, "*N K"]) -> Mixture:
    """The density that a network's outputs parametrise.

    π = softmax,  σ = exp,  ρ = tanh; means and logits as they are.
    """
    of_gaussians, pens = said[..., :-PENS], said[..., -PENS:]
    of_gaussians = of_gaussians.reshape(*said.shape[:-1], -1, 6)
    return Mixture(
        weights=jax.nn.log_softmax(of_gaussians[..., 0]),
        means=of_gaussians[..., 1:3],
        log_deviations=jnp.clip(of_gaussians[..., 3:5], *LOG_DEVIATION),
        correlations=jnp.clip(of_gaussians[..., 5], -CORRELATION, CORRELATION),
        pens=pens,
    )


def offset_nll(mixture: Mixture, offsets: Float[Array, "*N 2"]) -> Float[Array, "*N"]:
    """-log Σ_m π_m N(Δ; μ_m, Σ_m).

    With a = (Δx - μ_x) / σ_x and b of y, -2 log N = 2 log 2π + 2 log σ_x σ_y + log(1 - ρ²) +
    (a - ρb)² / (1 - ρ²) + b².
    """
    a, b = _standardised(mixture, offsets)
    rho = jnp.tanh(mixture.correlations)
    # 1 - tanh² loses all its digits in the tails; this does not.
    log_rest = 2 * (jnp.log(2.0) - jnp.logaddexp(mixture.correlations, -mixture.correlations))
    distance = jnp.square(a - rho * b) * jnp.exp(-log_rest) + jnp.square(b)
    log_density = -LOG_2_PI - mixture.log_deviations.sum(axis=-1) - 0.5 * (log_rest + distance)
    return -jax.nn.logsumexp(mixture.weights + log_density, axis=-1)


def pen_nll(mixture: Mixture, pens: Int[Array, "*N"]) -> Float[Array, "*N"]:
    """-log p(pen), of 0 down, 1 up and 2 end."""
    log_probs = jax.nn.log_softmax(mixture.pens)
    return -(log_probs * jax.nn.one_hot(pens, PENS, dtype=log_probs.dtype)).sum(axis=-1)


def sample(
    key: PRNGKeyArray, mixture: Mixture, temperature: Array | float
) -> tuple[Float[Array, "*N 2"], Int[Array, "*N"]]:
    """An offset and a pen, drawn with π^(1/τ) and q/τ, and σ² τ. Ha and Eck 2017, equation 8.

    At 0: the mean of the heaviest Gaussian, and the most probable pen.
    """
    of_component, of_pen, of_offset = jax.random.split(key, 3)
    component = _drawn(of_component, mixture.weights, temperature)
    pens = _drawn(of_pen, mixture.pens, temperature)

    def chosen(leaf: Array) -> Array:
        rest = leaf.ndim - component.ndim - 1
        return jnp.take_along_axis(
            leaf, component.reshape(*component.shape, 1, *(1,) * rest), axis=component.ndim
        ).squeeze(component.ndim)

    means, log_deviations = chosen(mixture.means), chosen(mixture.log_deviations)
    rho = jnp.tanh(chosen(mixture.correlations))
    first, second = jnp.moveaxis(jax.random.normal(of_offset, means.shape), -1, 0)
    correlated = rho * first + jnp.sqrt(1 - jnp.square(rho)) * second
    unit = jnp.stack([first, correlated], axis=-1)
    return means + jnp.exp(log_deviations) * jnp.sqrt(temperature) * unit, pens


def _standardised(mixture: Mixture, offsets: Array) -> tuple[Array, Array]:
    unit = (offsets[..., None, :] - mixture.means) * jnp.exp(-mixture.log_deviations)
    return unit[..., 0], unit[..., 1]


def _drawn(key: Array, log_probs: Array, temperature: Array | float) -> Array:
    tiny = jnp.finfo(jnp.float32).tiny  # at 0 all but the highest are -∞
    scores = log_probs - log_probs.max(axis=-1, keepdims=True)
    return jax.random.categorical(key, scores / jnp.maximum(temperature, tiny)).astype(jnp.int32)
