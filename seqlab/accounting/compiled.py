"""What the compiler says of the same function: its FLOPs and bytes, forward and in training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqlab.accounting.subject import Subject

OPTIMIZERS: dict[str, optax.GradientTransformation] = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": optax.adam(1e-3),
}


class Figures(NamedTuple):
    """Of one compiled program; bytes on the device that it was compiled for.

    Attributes:
        flops: of the program before optimisation; loops are counted once by XLA.
        arguments: parameters, state of the optimiser, inputs.
        outputs: those that do not overwrite an argument.
        temporaries: all else that is alive at the worst moment.
    """

    flops: float
    arguments: int
    outputs: int
    temporaries: int

    @property
    def peak(self) -> int:
        return self.arguments + self.outputs + self.temporaries


class Step(NamedTuple):
    """A function with the shapes of its arguments.

    Attributes:
        function: pure.
        arguments: trees of shapes.
        donated: the numbers of the arguments whose memory is given to the outputs.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    donated: tuple[int, ...] = ()


def forward(subject: Subject) -> Step:
    """The function as it is used."""
    return Step(subject.function, (subject.variables, *subject.inputs.values()))


def training_step(subject: Subject, optimizer: str) -> Step:
    """One update: (params, optimiser state, network state, *inputs) -> (params, optimiser state).

    The loss is the mean square of all outputs, which costs as little as a loss can. Parameters and
    the optimiser's state are donated, as every training loop does.
    """
    transformation = OPTIMIZERS[optimizer]
    params = subject.variables["params"]
    state = {name: leaf for name, leaf in subject.variables.items() if name != "params"}

    def step(params: Any, opt_state: Any, state: Any, *inputs: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            outputs = jax.tree.leaves(subject.training({"params": params, **state}, *inputs))
            real = [y for y in outputs if jnp.issubdtype(y.dtype, jnp.floating)]
            return sum((jnp.square(y).mean() for y in real), start=jnp.zeros((), real[0].dtype))

        grads = jax.grad(loss)(params)
        with jax.numpy_dtype_promotion("standard"):  # Adam of optax: a float to an integer power
            updates, opt_state = transformation.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state = jax.eval_shape(transformation.init, params)
    return Step(step, (params, opt_state, state, *subject.inputs.values()), donated=(0, 1))


def lowered_flops(step: Step) -> float:
    """FLOPs as XLA counts them in the program before optimisation; nothing is compiled."""
    analysis = jax.jit(step.function).lower(*step.arguments).cost_analysis()
    return float(analysis["flops"]) if analysis else float("nan")


def figures(step: Step) -> Figures:
    """Compile for the first device and ask; nothing is allocated and nothing run.

    Raises:
        NotImplementedError: the compiler has no memory analysis.
    """
    lowered = jax.jit(step.function, donate_argnums=step.donated).lower(*step.arguments)
    memory = lowered.compile().memory_analysis()
    if memory is None:
        raise NotImplementedError("this compiler does not say how much memory a program takes")
    return Figures(
        flops=float((lowered.cost_analysis() or {}).get("flops", float("nan"))),
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
    )
