"""Variables of networks: as shapes, each network traced once, and drawn."""

import functools

import jax
import numpy as np

from seqlab.models.convnets import NETWORKS


def trace(module, side, channels):
    image = jax.ShapeDtypeStruct((1, side, side, channels), "float32")
    return jax.eval_shape(functools.partial(module.init, jax.random.key(0)), image)


@functools.cache
def variables(name, auxiliary=False):
    module, (side, _, channels) = NETWORKS[name]
    return trace(module.clone(auxiliary=True) if auxiliary else module, side, channels)


def leaves(params):
    """Path of each parameter, joined by "/": its shape."""
    return {
        "/".join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def randomised(module, x, *arguments):
    """Variables none of which is 0 or 1; what multiplies is near 1, so that signals stay alike."""
    shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, *arguments), x)
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = max(1, np.prod(leaf.shape[:-1]))
        return (rng.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, dict(shapes))
