"""What the matrix products of a traced program cost."""

import math
from typing import Any

from jax.extend.core import jaxprs_in_params


def dot_flops(jaxpr: Any) -> int:
    """2 × multiplications of all `dot_general`s of a program, those in a scan once a step."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            lhs = equation.invars[0].aval.shape
            size = math.prod(equation.outvars[0].aval.shape)
            total += 2 * size * math.prod(lhs[axis] for axis in contracted)
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(dot_flops(inner) for inner in jaxprs_in_params(equation.params))
    return total
