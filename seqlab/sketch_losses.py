"""The loss of a drawing: of its steps and pens, and the KL of its posterior from the prior.

    L_R = -1/N_max [Σ_{i ≤ N} log p(Δ_i) + Σ_i log p(pen_i)]
    L_KL = -1/(2 Z) Σ_z (1 + log σ² - μ² - σ²)
    L = L_R + w η_t max(L_KL, KL_min),   η_t = 1 - (1 - η_min) R^t

N are the steps of a drawing, N_max those of the longest; the pens of all steps are counted, those
that pad a drawing with its end too. Source: Ha and Eck 2017, equations 9 to 11 and appendix.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from seqlab.models import mixture
from seqlab.models.sketch import Posterior
from seqlab.sketches import END


@dataclass(frozen=True)
class SketchLoss:
    """How drawings are augmented, and how the KL term is weighted.

    Attributes:
        scaling: each axis of a drawing is scaled by a number from U[1 - s, 1 + s].
        kl_weight: w.
        kl_min: KL_min; below it the posterior costs nothing.
        kl_begin: η_min.
        kl_rate: R.
    """

    scaling: float = 0.15
    kl_weight: float = 0.5
    kl_min: float = 0.2
    kl_begin: float = 0.01
    kl_rate: float = 0.9995


class Terms(NamedTuple):
    """What a drawing costs, in nats.

    Attributes:
        offsets: Σ -log p(Δ_i) over its steps.
        pens: Σ -log p(pen_i) over its steps and the end.
        padding: the same over what pads it.
    """

    offsets: Float[Array, " B"]
    pens: Float[Array, " B"]
    padding: Float[Array, " B"]


def terms(
    said: Float[Array, "B T K"], wanted: Float[Array, "B T 5"], real: Bool[Array, "B T"]
) -> Terms:
    """The parts of a drawing's negative log likelihood.

    Args:
        said: a network's numbers.
        wanted: the steps, one of them the end; padding is all 0.
        real: which are steps of the drawing or its end.
    """
    density = mixture.split(said)
    pens = jnp.where(real, wanted[..., 2:].argmax(axis=-1), END).astype(jnp.int32)
    of_offset = mixture.offset_nll(density, wanted[..., :2])
    of_pen = mixture.pen_nll(density, pens)

    def total(values: Array, where: Array) -> Array:
        return jnp.where(where, values, 0.0).sum(axis=1)

    return Terms(total(of_offset, pens != END), total(of_pen, real), total(of_pen, ~real))


def divergence(posterior: Posterior) -> Float[Array, " B"]:
    """KL(q(z | drawing) ‖ N(0, 1)) = -½ Σ_z (1 + log σ² - μ² - σ²), in nats."""
    mean, log_variance = posterior
    return -0.5 * (1 + log_variance - jnp.square(mean) - jnp.exp(log_variance)).sum(axis=1)


def annealed(loss: SketchLoss, step: Array | int) -> Array:
    """η_t, from η_min to 1."""
    passed = jnp.asarray(step, jnp.float32)
    return 1 - (1 - loss.kl_begin) * jnp.power(loss.kl_rate, passed)
