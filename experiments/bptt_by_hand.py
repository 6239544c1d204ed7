"""Backpropagation through time as the slide writes it: every term of the sum, next to jax.grad.

    h_t = tanh(U x_t + W h_{t−1})    z_t = V h_t    ŷ_t = softmax(z_t)    E_t = −y_t·log ŷ_t

    ∂E_t/∂V = (ŷ_t − y_t) ⊗ h_t
    ∂E_t/∂W = Σ_{k=0}^{t} ∂E_t/∂ŷ_t · ∂ŷ_t/∂h_t · ∂h_t/∂h_k · ∂⁺h_k/∂W
    ∂h_t/∂h_k = Π_{j=k+1}^{t} ∂h_j/∂h_{j−1}

Claim (the decks): this sum is the gradient; the terms of distant steps vanish from it, or explode.
The slide prints ∂h_k/∂W. The sum is the gradient only if h_{k−1} is held fixed there, written ∂⁺:
the total derivative of h_k contains the terms before k, so term k would count t − k + 1 times.

    python launch.py run bptt_by_hand                        seconds; every budget is the same
    python launch.py table bptt_by_hand --only steps=4       the slide's own sum, every matrix of it
    python launch.py plot bptt_by_hand                       the norms over t − k

Protocol: the decks' exercise, vocabulary h, e, l, o, one-hot, two hidden units; the next letter of
hello, in four steps, or of hellohello… in twenty. W is a rotation scaled by its spectral radius ρ,
so that ‖∂h_t/∂h_k‖ ≤ ρ^(t−k): below 1 the gradient must vanish, above 1 it explodes only where tanh
is not saturated. `signal` multiplies U and h_{−1}; when it is small, tanh is linear. The terms are
added from k = t backwards. Each partial sum is the gradient of backpropagation truncated to
t − k + 1 steps, and is compared with jax.grad with stop_gradient on h_{k−1}. In float64. Of the
four steps the numbers of every term are kept, and the gradients of E = Σ_t E_t.

Source: the deck "Tensorflow day 3", backpropagation through time; Pascanu, Mikolov and Bengio, On
the difficulty of training recurrent neural networks, 2013, for the bound.
"""

import math
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import results
from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.tables import Column, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOCABULARY = "helo"
HIDDEN = 2
DECK_STEPS = 4
LONGEST = 30  # JAX compiles every step
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Trial:
    """One draw of the weights, and how far it is unrolled."""

    spectral_radius: float
    steps: int = DECK_STEPS
    signal: float = 1.0
    word: str = "hello"
    seed: int = 0


def trials(budget: str) -> list[Trial]:
    """Three spectral radii on the deck's four steps, on twenty, and where tanh is linear."""
    settings = ((DECK_STEPS, 1.0), (20, 1.0), (20, 1e-5))
    return [Trial(radius, *setting) for setting in settings for radius in (0.5, 1.0, 1.5)]


def check(trial: Trial) -> None:
    """Raise InputError for what has no gradient worth a lecture."""
    if not 0 < trial.spectral_radius <= 2:
        raise InputError(f"spectral_radius is above 0, at most 2, not {trial.spectral_radius}")
    if not 0 < trial.signal <= 1:
        raise InputError(f"signal is above 0, at most 1, not {trial.signal}")
    if not 1 <= trial.steps <= LONGEST:
        raise InputError(f"steps are from 1 to {LONGEST}, not {trial.steps}")
    if not trial.word or not set(trial.word) <= set(VOCABULARY):
        raise InputError(f"a word has the letters {', '.join(VOCABULARY)}, not {trial.word!r}")
    if trial.seed < 0:
        raise InputError(f"seed is at least 0, not {trial.seed}")


# The setting


class Weights(NamedTuple):
    """As the slide has them, for columns x_t: U [H, A], W [H, H], V [A, H]."""

    u: np.ndarray
    w: np.ndarray
    v: np.ndarray


class Setting(NamedTuple):
    weights: Weights
    before: np.ndarray  # h_{−1} [H]: not zero, or term 0 would be
    xs: np.ndarray  # [T, A], one-hot
    ys: np.ndarray  # [T, A], the letters that follow


def drawn(trial: Trial) -> Setting:
    """The weights and letters of a trial, float64."""
    rng = np.random.default_rng(trial.seed)
    angle = rng.uniform(0, math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    weights = Weights(
        u=trial.signal * rng.normal(size=(HIDDEN, len(VOCABULARY))),
        w=trial.spectral_radius * turn,
        v=rng.normal(size=(len(VOCABULARY), HIDDEN)),
    )
    before = trial.signal * rng.uniform(-1, 1, HIDDEN)
    letters = [VOCABULARY.index(letter) for letter in trial.word]
    text = np.resize(letters, trial.steps + 1)  # repeats the word
    one_hot = np.eye(len(VOCABULARY))[text]
    return Setting(weights, before, one_hot[:-1], one_hot[1:])


# By hand: arrays are named as on the slide, dh_dw is ∂h/∂W


class Forward(NamedTuple):
    hs: list[np.ndarray]  # hs[t] is h_t; hs[−1], the last, is h_{−1}
    predictions: list[np.ndarray]  # ŷ_t


def forward(setting: Setting) -> Forward:
    """h_t [H] and ŷ_t [A] of every step."""
    (u, w, v), h = setting.weights, setting.before
    hs, predictions = [], []
    for x in setting.xs:
        h = np.tanh(u @ x + w @ h)
        z = v @ h
        hs.append(h)
        predictions.append(np.exp(z) / np.exp(z).sum())
    return Forward([*hs, setting.before], predictions)


def dh_dh(w: np.ndarray, hs: list[np.ndarray], t: int, k: int) -> np.ndarray:
    """∂h_t/∂h_k = Π_{j=k+1}^{t} diag(1 − h_j²) W, the latest on the left: [H, H]."""
    product = np.eye(HIDDEN)
    for j in range(k + 1, t + 1):
        dh_j_dh_before = np.diag(1 - hs[j] ** 2) @ w
        product = dh_j_dh_before @ product
    return product


def direct(h: np.ndarray, h_before: np.ndarray) -> np.ndarray:
    """∂⁺h_k[a]/∂W[m, n] = (1 − h_k[a]²) δ_am h_{k−1}[n]: [H, H, H]."""
    return np.einsum("a,am,n->amn", 1 - h**2, np.eye(HIDDEN), h_before)


def term(
    setting: Setting, hs: list[np.ndarray], prediction: np.ndarray, t: int, k: int
) -> np.ndarray:
    """Term k of ∂E_t/∂W, [H, H], with ŷ_t [A]."""
    de_dprediction = -setting.ys[t] / prediction
    dprediction_dz = np.diag(prediction) - np.outer(prediction, prediction)
    dprediction_dh = dprediction_dz @ setting.weights.v
    dh_t_dh_k = dh_dh(setting.weights.w, hs, t, k)
    de_dh_k = de_dprediction @ dprediction_dh @ dh_t_dh_k
    return np.einsum("a,amn->mn", de_dh_k, direct(hs[k], hs[k - 1]))


# By JAX


@jax.jit
def by_jax(setting: Setting, counted: jax.Array, cuts: jax.Array) -> Weights:
    """∂(Σ_t counted_t E_t)/∂(U, W, V) for each of the cuts, without what flows through h_{cut−1}.

    Args:
        setting: its weights are those of the slide; the library's cell has their transposes.
        counted: [T], 1 at t alone for E_t, 1 everywhere for E.
        cuts: the first step of the window, [N].

    Returns:
        The gradients, [N, …].
    """

    def error(weights: Weights, cut: jax.Array) -> jax.Array:
        params = {"w_xh": weights.u.T, "w_hh": weights.w.T, "b_h": jnp.zeros(HIDDEN)}
        h = jnp.asarray(setting.before)[None]
        errors = []
        for step, (x, y) in enumerate(zip(setting.xs, setting.ys, strict=True)):
            h = jnp.where(step == cut, jax.lax.stop_gradient(h), h)
            h, _ = CELLS["rnn"].step(params, h, x[None])
            errors.append(-jnp.vdot(y, jax.nn.log_softmax(weights.v @ h[0])))
        return jnp.vdot(counted, jnp.stack(errors))

    return jax.vmap(jax.grad(error), (None, 0))(setting.weights, cuts)


# One trial


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """All terms of all errors, and how far every sum is from JAX. Nothing is kept in the folder."""
    setting = drawn(trial)
    hs, predictions = forward(setting)
    each_error, windows = np.eye(trial.steps), np.arange(trial.steps)
    outputs, terms = [], []
    de_dv, de_dw = np.zeros_like(setting.weights.v), np.zeros_like(setting.weights.w)  # of E
    for t, prediction in enumerate(predictions):
        theirs = _theirs(setting, each_error[t], windows)
        output = np.outer(prediction - setting.ys[t], hs[t])
        of_error = np.stack([term(setting, hs, prediction, t, k) for k in range(t + 1)])
        whole, norms = of_error.sum(0), [_norm(one) for one in of_error]
        outputs.append(
            {
                "t": t,
                "norm": _norm(output),
                "difference": _off(output, theirs.v[0]),
                **_kept(trial, output),
            }
        )
        for k in range(t, -1, -1):
            truncated = of_error[k:].sum(0)
            terms.append(
                {
                    "t": t,
                    "k": k,
                    "jacobian": float(np.linalg.norm(dh_dh(setting.weights.w, hs, t, k), 2)),
                    "norm": norms[k],
                    "share": norms[k] / sum(norms),
                    "sum": _norm(truncated),
                    "left_out": _norm(whole - truncated) / _norm(whole),
                    "difference": _off(truncated, theirs.w[k]),
                    **_kept(trial, of_error[k]),
                }
            )
        de_dv, de_dw = de_dv + output, de_dw + whole
    theirs = _theirs(setting, np.ones(trial.steps), windows[:1])
    totals = [
        {"of": name, "sum": _norm(total), "difference": _off(total, jax_s), **_kept(trial, total)}
        for name, total, jax_s in (("V", de_dv, theirs.v[0]), ("W", de_dw, theirs.w[0]))
    ]
    largest = max(line["difference"] for line in outputs + terms + totals)
    return {"outputs": outputs, "terms": terms, "totals": totals, "largest_difference": largest}


def _theirs(setting: Setting, counted: np.ndarray, cuts: np.ndarray) -> Weights:
    with jax.enable_x64(True):
        return Weights(*map(np.asarray, by_jax(setting, counted, cuts)))


def _kept(trial: Trial, gradient: np.ndarray) -> dict[str, Any]:
    """The numbers themselves, where they are few enough to be read."""
    return {"matrix": gradient.tolist()} if trial.steps == DECK_STEPS else {}


def _norm(gradient: np.ndarray) -> float:
    return float(np.linalg.norm(gradient))


def _off(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference of an entry, by the largest entry where that is below 1."""
    return float(np.abs(ours - theirs).max() / min(1.0, np.abs(theirs).max()))


# The table and the figure

COLUMNS = (
    Column("setting", "setting"),
    Column("gradient", "gradient"),
    Column("t", "t", data_only=True),
    Column("k", "k"),
    Column("window", "window"),
    Column("matrix", "matrix", data_only=True),
    Column("shown", "matrix"),
    Column("jacobian", "‖∂h_t/∂h_k‖", ".3g"),
    Column("bound", "ρ^(t−k)", ".3g"),
    Column("norm", "‖term‖", ".3g"),
    Column("share", "share", ".1%"),
    Column("sum", "‖sum‖", ".3g"),
    Column("left_out", "left out", ".1%"),
    Column("difference", "off JAX", ".0e"),
    Column("verdict", "verdict"),
)
NOTES = (
    "∂E_t/∂V is one term. The terms of ∂E_t/∂W are added from k = t backwards. share: of the sum "
    "of their norms. sum: terms k to t, the gradient truncated to this window of steps. left out: "
    "the norm of the sum of the terms before k, relative to that of the whole gradient.",
    "Norms are Frobenius norms, for ∂h_t/∂h_k spectral. off JAX: the largest difference of any "
    "entry of ∂E_t/∂V, or of the sum, from jax.grad's, relative to the largest entry if that is "
    "below 1.",
    f"With {DECK_STEPS} steps the gradients of all E_t are shown, and of their sum E, with their "
    "matrices to four digits; otherwise the norms of the last E_t. Rows of ∂E/∂V are the letters "
    f"{', '.join(VOCABULARY)}; all other rows and columns are hidden units.",
)


def table(rows: list[dict[str, Any]]) -> Table:
    """A line a term, from the latest to the first; a section a trial."""
    lines: list[dict[str, Any]] = []
    every: list[dict[str, Any]] = []
    for row in sorted(rows, key=_place):
        config = row["config"]
        heading = {"setting": f"{_setting(config)}, ρ = {config['spectral_radius']:g}"}
        if row["status"] != results.DONE:
            lines.append(heading | {"gradient": row["status"]})
            continue
        ours = [_output_line(output) for output in row["metrics"]["outputs"]]
        ours += [_term_line(term, config) for term in row["metrics"]["terms"]]
        totals = [_total_line(total) for total in row["metrics"].get("totals", ())]
        every += ours + totals
        short = config["steps"] == DECK_STEPS
        shown = range(DECK_STEPS) if short else [config["steps"] - 1]
        lines += [heading | line for t in shown for line in ours if line["t"] == t]
        lines += [heading | total for total in totals if short]
    agree = sum(line["verdict"] == "agrees" for line in every)
    total = f"Shown or not, {agree} of {len(every)} gradients agree with JAX's to {TOLERANCE:.0e}."
    title = "The gradient of a recurrent network, term by term"
    return Table(title, COLUMNS, tuple(lines), "setting", (*NOTES, total))


def _output_line(output: dict[str, Any]) -> dict[str, Any]:
    return _line(f"∂E_{output['t']}/∂V", output)


def _term_line(term: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    back = term["t"] - term["k"]
    bound = config["spectral_radius"] ** back
    return {"window": back + 1, "bound": bound} | _line(f"∂E_{term['t']}/∂W", term)


def _total_line(total: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: value for key, value in total.items() if key != "of"}
    return _line(f"∂E/∂{total['of']} = Σ_t ∂E_t/∂{total['of']}", numbers)


def _line(gradient: str, numbers: dict[str, Any]) -> dict[str, Any]:
    shown = {"shown": written(numbers["matrix"])} if "matrix" in numbers else {}
    return {"gradient": gradient, "verdict": _verdict(numbers), **shown, **numbers}


def written(matrix: list[list[float]]) -> str:
    """A line a row, four significant digits, the columns below each other."""
    cells = [[f"{number: #.4g}" for number in row] for row in matrix]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [", ".join(map(str.ljust, row, widths)) for row in cells]
    return "[" + ",\n ".join(f"[{row}]" for row in rows) + "]"


def _verdict(gradient: dict[str, Any]) -> str:
    return "agrees" if gradient["difference"] <= TOLERANCE else "differs"


def _place(row: dict[str, Any]) -> tuple:
    c = row["config"]
    return c["steps"], -c["signal"], c["word"], c["seed"], c["spectral_radius"]


def _setting(config: dict[str, Any]) -> str:
    """All but the spectral radius."""
    parts = [config["word"], f"{config['steps']} steps"]
    if config["signal"] != 1:
        parts.append(f"signal {config['signal']:g}")
    if config["seed"]:
        parts.append(f"seed {config['seed']}")
    return ", ".join(parts)


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """‖∂h_t/∂h_k‖ and the norms of the terms over t − k: dots of all errors, a line of the last."""
    from seqlab import plots

    done = sorted((row for row in rows if row["status"] == results.DONE), key=_place)
    if not done:
        return {}
    radii = sorted({row["config"]["spectral_radius"] for row in done})
    settings = [list(of) for _, of in groupby(done, lambda row: _setting(row["config"]))]
    figure, axes = plots.panels(2, len(settings), height=4.2)
    for (above, below), of_setting in zip(axes.T, settings, strict=True):
        for row in of_setting:
            radius, terms = row["config"]["spectral_radius"], row["metrics"]["terms"]
            number = radii.index(radius)
            colour = plots.COLOURS[number % len(plots.COLOURS)]
            marker = plots.MARKERS[number % len(plots.MARKERS)]
            back = np.array([term["t"] - term["k"] for term in terms])
            last = np.array([term["t"] == row["config"]["steps"] - 1 for term in terms])
            for panel, key in ((above, "jacobian"), (below, "norm")):
                values = np.array([term[key] for term in terms])
                panel.scatter(back, values, s=5, color=colour, alpha=0.3, linewidths=0)
                label = f"ρ = {radius:g}"
                panel.plot(back[last], values[last], marker, ls="-", ms=3, c=colour, label=label)
            above.plot(back[last], radius ** back[last], ":", c=colour, linewidth=0.9)
        above.set_yscale("log")
        below.set_yscale("log")
        below.set_xlabel("t − k, steps back")
        above.set_title(_setting(of_setting[0]["config"]))
    axes[0, 0].set_ylabel("‖∂h_t/∂h_k‖, dotted: ρ^(t−k)")
    axes[1, 0].set_ylabel("‖term k of ∂E_t/∂W‖")
    axes[0, 0].legend()
    return {"bptt_by_hand": figure}
