"""Drawings as sequences of pen steps: an unconditional network, and a VAE that reads a drawing.

Claim: a recurrent network that predicts each step as a mixture of Gaussians beats a single Gaussian
by nats per point, and draws invented characters that look like real ones; one that has read a
drawing draws it again in its own hand.

    python launch.py run sketch_rnn --budget smoke     two short runs on characters; two minutes
    python launch.py run sketch_rnn                    characters; half an hour on two cores
    python launch.py run sketch_rnn --set data.name=omniglot
    python launch.py run sketch_rnn --set model.cell=gru,mut1
    python launch.py run sketch_rnn --budget paper     the published network, sheep too; a GPU
    python launch.py plot sketch_rnn                   drawings at four temperatures
    python launch.py sample sketch_rnn --prompt drawn.svg --temperature 0.4

Protocol: the paper's, except for what follows. 20 Gaussians; gradients clipped by their norm, the
rate halved at the end; as augmentation the axes of a drawing are scaled at random, but no points
are dropped. Dropout is on the embedding and on the outputs of layers, which works for any cell,
where the paper's is inside an LSTM; a step is embedded, since not every cell has a matrix for its
input. The published drawings lie on a grid: they are dequantised by uniform noise of its width,
without which the density is unbounded and nats mean nothing. Nats cover offsets and pen states up
to and including the end, in the unit in which the offsets of train have a standard deviation of 1;
for a VAE they are an upper bound, reconstruction plus KL divergence. The best epoch is tested.

Source: Ha and Eck 2017, A Neural Representation of Sketch Drawings; its values are for other
drawings, and for a loss in another unit.
"""

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import buckets, epochs, sketches, systems, train_sketches, trial_fields
from seqlab.cells import CELLS
from seqlab.data import strokes
from seqlab.data.fingerprint import fingerprint
from seqlab.data.strokes import Strokes
from seqlab.errors import InputError, nearest
from seqlab.history import same_data
from seqlab.models.rnn import bidirectional_stack, stack
from seqlab.models.sketch import STEP, Sketcher, SketchVAE, Unconditional
from seqlab.optim import Schedule
from seqlab.sample import Asked, Sampler
from seqlab.sample_files import writes
from seqlab.sketch_losses import SketchLoss
from seqlab.sketches import Drawings
from seqlab.tables import Table
from seqlab.train_sketches import Program, SketchTrainConfig
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim, settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPERATURES = (0.1, 0.4, 0.7, 1.0)
SHOWN = 8  # drawings of each temperature
HEADINGS = {
    "aaron_sheep": "Sheep",
    "short_kanji": "Characters of Japanese",
    "omniglot": "Omniglot",
}


@dataclass(frozen=True)
class Model:
    """Which network.

    Attributes:
        cell: of all its layers.
        units: of the layers that draw, and of the embedding.
        num_layers: that draw.
        encoder_units: in each direction, of the layers that read a drawing.
        latents: Z; 0: nothing is read, and nothing told.
        components: M.
    """

    cell: str = "lstm"
    units: int = 192
    num_layers: int = 1
    encoder_units: int = 96
    latents: int = 0
    components: int = 20


@dataclass(frozen=True)
class Trial:
    """A network that draws."""

    budget: str
    data: Strokes
    model: Model
    optim: Optim
    train: SketchTrainConfig
    seed: int = 0


ADAM = Optim("adam", learning_rate=2e-3, clip_norm=1.0, dropout_rate=0.1)


def trials(budget: str) -> list[Trial]:
    """Unconditional and told, from several seeds."""
    if budget == "smoke":
        small = Model(units=96, encoder_units=48)
        short = SketchTrainConfig(
            num_buckets=1, schedule=Schedule(max_epochs=2, patience=2, halvings=1)
        )
        first = Trial(budget, Strokes("short_kanji"), small, ADAM, short)
        return [first, replace(first, {"model.latents": 16})]
    if budget == "default":
        whole = SketchTrainConfig(
            num_buckets=3, schedule=Schedule(max_epochs=12, patience=5, halvings=4)
        )
        base = Trial(budget, Strokes("short_kanji"), Model(), ADAM, whole)
        names, latents, num_seeds = ("short_kanji",), 32, 3
    elif budget == "paper":
        published = Model("lstm", 512, 1, 256)
        slow = replace(ADAM, {"learning_rate": 1e-3})
        schedule = Schedule(max_epochs=300, patience=20, halvings=8)
        whole = SketchTrainConfig(100, 1, SketchLoss(kl_rate=0.99995), schedule)
        base = Trial(budget, Strokes(), published, slow, whole)
        names, latents, num_seeds = ("aaron_sheep", "short_kanji"), 128, 5
    else:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    return [
        replace(base, {"data.name": name, "model.latents": told, "seed": seed})
        for name in names
        for told in (0, latents)
        for seed in range(num_seeds)
    ]


POSITIVE = ("model.units", "model.encoder_units", "model.components", "train.num_buckets")


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    trial_fields.check(trial, POSITIVE)
    loss = trial.train.loss
    if trial.model.latents < 0:
        raise InputError(f"model.latents must be from 0, not {trial.model.latents}")
    if not 0 <= loss.scaling < 1:
        raise InputError(f"train.loss.scaling must be in [0, 1), not {loss.scaling}")
    for name in ("kl_begin", "kl_rate"):
        if not 0 <= getattr(loss, name) <= 1:
            raise InputError(f"train.loss.{name} must be in [0, 1], not {getattr(loss, name)}")
    for name in ("kl_weight", "kl_min"):
        if getattr(loss, name) < 0:
            raise InputError(f"train.loss.{name} must be from 0, not {getattr(loss, name)}")
    shapes = jnp.zeros((1, 1, STEP)), jnp.zeros((1, 1, STEP)), jnp.ones(1, jnp.int32)
    latents = jnp.zeros((1, trial.model.latents))
    model: Any = network(trial.model)
    jax.eval_shape(model.init, jax.random.key(0), *shapes, latents if trial.model.latents else None)
    check_data(trial.data)


check_data = functools.cache(strokes.check)


@functools.lru_cache(maxsize=1)
def load(config: Strokes) -> tuple[Drawings, str]:
    """The drawings and their digest."""
    dataset = strokes.load(config)
    return sketches.drawings(dataset), fingerprint(dataset)  # pyright: ignore


def network(model: Model) -> Unconditional | SketchVAE:
    """What draws, and what reads where there are latents."""
    cell = CELLS[model.cell]
    sketcher = Sketcher(stack(cell, model.units, model.num_layers), model.units, model.components)
    if not model.latents:
        return Unconditional(sketcher)
    encoder = bidirectional_stack(cell, model.encoder_units, 1)
    return SketchVAE(encoder, model.encoder_units, sketcher, model.latents)


def compiled(trial: Trial, drawings: Drawings) -> Program:
    """What is compiled for a trial."""
    optimizer, loss = trial.optim.optimizer, trial.train.loss
    return Program(network(trial.model), optimizer, loss, drawings.quantum, drawings.longest)


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train; nats per point and per drawing beside those of one Gaussian; drawings."""
    drawings, sha256 = load(trial.data)
    same_data(folder, sha256)
    program = compiled(trial, drawings)

    def inspect(params: Any) -> dict[str, Any]:
        return shown(program.model, params, drawings)

    metrics = train_sketches.fit(
        program, settings(trial), drawings, trial.train, folder, True, inspect
    )
    for split in ("valid", "test"):
        metrics[f"{split}_nll_point"] = metrics[f"{split}_nll"] / metrics[f"{split}_points"]
    gaussian = sketches.single_gaussian(drawings)
    told = {"baseline_drawing": gaussian["drawing"], "baseline_point": gaussian["point"]}
    return metrics | told | {"dataset_sha256": sha256}


def shown(model: Unconditional | SketchVAE, params: Any, drawings: Drawings) -> dict[str, Any]:
    """Drawings at each temperature; those that are told draw the first of the test split again."""
    key = jax.random.key(0)
    found = {}
    if isinstance(model, SketchVAE):
        few = buckets.rectangle(drawings.test)
        inputs, lengths = few.inputs[:SHOWN], few.lengths[:SHOWN]
        encode: Any = jax.jit(functools.partial(model.apply, method="encode"))
        z = encode(params, inputs, lengths).mean
        rows = zip(np.asarray(inputs), lengths.tolist(), strict=True)
        found["test_drawings"] = [sketches.strokes(row[None, :n])[0] for row, n in rows]
    else:
        z = sketches.from_prior(model, key, SHOWN)
    found["drawn"] = {
        str(temperature): sketches.strokes(
            sketches.draw(model, params, key, z, temperature, drawings.longest)
        )
        for temperature in TEMPERATURES
    }
    return found


SAMPLED = ("data.name=short_kanji", "model.latents=0")


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """Eight drawings side by side, written to the SVG file that is named."""
    drawings, _ = load(trial.data)
    program = compiled(trial, drawings)
    batch = buckets.rectangle(drawings.test)
    like = train_sketches.init_params(program.model, jax.random.key(0), batch)
    params = epochs.restore_best(folder, like)
    temperature = 0.4 if asked.temperature is None else asked.temperature
    length = asked.length or drawings.longest
    key, numbers = jax.random.key(asked.seed or 0), itertools.count()

    def write(path: Path) -> str:
        of_z, of_steps = jax.random.split(jax.random.fold_in(key, next(numbers)))
        z = sketches.from_prior(program.model, of_z, SHOWN)
        drawn = sketches.draw(program.model, params, of_steps, z, jnp.float32(temperature), length)
        made = sketches.strokes(drawn)
        sketches.write_svg(path, made)
        return f"{SHOWN} drawings of {', '.join(str(len(one)) for one in made)} steps"

    return writes({".svg": write})


# The table and the figures


def table(rows: list[dict[str, Any]]) -> Table:
    """Nats a point, and a drawing: of one Gaussian, and ours."""
    parts = [
        systems.table(
            "Drawings",
            rows,
            section=_section,
            system=_system,
            metric=metric,
            published={},
            wiring="one to many",
            measure=f"nats per {unit}",
            notes=(
                "baseline: one Gaussian, and the frequencies of pen down, pen up and end. For "
                "networks with latents the value is an upper bound: reconstruction plus KL "
                "divergence.",
            ),
            baseline=f"baseline_{unit}",
        )
        for unit, metric in (("point", "test_nll_point"), ("drawing", "test_nll"))
    ]
    return systems.one_below_the_other(*parts)


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    name = config["data"]["name"]
    return name, HEADINGS[name]


def _system(config: Mapping[str, Any]) -> str:
    latents = config["model"]["latents"]
    kind = f"{latents} latents" if latents else "unconditional"
    return f"{systems.layers(config['model'])}, {kind}"


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Drawings by temperature, of the first seed of each network; above them what it was told."""
    from seqlab import plots

    drawn = {}
    for row in sorted(rows, key=lambda row: row["config"]["seed"]):
        config, metrics = row["config"], row["metrics"]
        model = config["model"]
        kind = "vae" if model["latents"] else "unconditional"
        name = f"{config['data']['name']}_{model['cell']}_{kind}_{config['budget']}"
        if "drawn" not in metrics or name in drawn:
            continue
        told = {"test": metrics["test_drawings"]} if "test_drawings" in metrics else {}
        grid = told | {f"τ = {t}": some for t, some in metrics["drawn"].items()}
        columns = max(map(len, grid.values()))
        figure, axes = plots.panels(len(grid), columns, height=0.95 * len(grid))
        for line, (title, some) in zip(axes, grid.items(), strict=True):
            for panel, drawing in zip(line, some, strict=False):
                for stroke in sketches.lines(drawing):
                    panel.plot(*zip(*stroke, strict=True), color="black", linewidth=0.8)
                panel.set_aspect("equal", adjustable="datalim")
                panel.invert_yaxis()
            for panel in line:
                panel.set(xticks=[], yticks=[])
                panel.grid(False)
                panel.spines[:].set_visible(False)
            line[0].set_ylabel(title)
        figure.suptitle(f"{HEADINGS[config['data']['name']]}: {_system(config)}")
        drawn[name] = figure
    return drawn
