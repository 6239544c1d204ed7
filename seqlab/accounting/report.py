"""The accounting as a table to project, and as JSON."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from seqlab.accounting.account import Accounting, Saved, account_subject, saved
from seqlab.accounting.batches import largest_batch
from seqlab.accounting.compiled import OPTIMIZERS, Figures, Step, figures, forward, training_step
from seqlab.accounting.memory import predicted_peak
from seqlab.accounting.named import DTYPES, Named, one_line
from seqlab.accounting.rows import Row
from seqlab.errors import InputError
from seqlab.tables import Column, Table

MIB = 2**20

COLUMNS = (
    Column("section", "section"),
    Column("layer", "layer"),
    Column("output_shape", "output"),
    Column("activations", "activations", ",d"),
    Column("mib", "MiB", ",.2f"),
    Column("params", "params", ",d"),
    Column("weights", "weights", ",d"),
    Column("macs", "MACs", ",d"),
    Column("receptive_field", "field"),
)

COMPILED_COLUMNS = (
    Column("gflops", "GFLOPs", ",.3f"),
    Column("argument_mib", "arguments, MiB", ",.2f"),
    Column("temporary_mib", "temporaries, MiB", ",.2f"),
    Column("compiled_mib", "peak, MiB", ",.2f"),
    Column("error", "predicted / peak", ".3f"),
)


class Report:
    """Everything `account` shows of one name.

    Args:
        name: as given.
        named: what it stands for.
        batch: B.
        dtype: a key of DTYPES.
        is_compiled: whether the compiler is asked, too, which takes longer.

    Raises:
        InputError: it cannot be traced.
    """

    def __init__(self, name: str, named: Named, batch: int, dtype: str, is_compiled: bool):
        self.name = name
        self.batch = batch
        self.dtype = dtype
        self.subject = named.subject(batch, DTYPES[dtype])
        self.counted = traced(name, self.subject)
        self.auxiliary: list[Row] = []
        if named.with_auxiliary is not None:
            trained = traced(name, named.with_auxiliary(batch, DTYPES[dtype]))
            own = {row.layer for row in self.counted.rows}
            self.auxiliary = [row for row in trained.rows if row.layer not in own]
        self.saved: Saved = saved(self.subject)
        steps = {"forward": forward(self.subject)}
        steps |= {name: training_step(self.subject, name) for name in OPTIMIZERS}
        self.predicted = {name: predicted_peak(step) for name, step in steps.items()}
        self.compiled: dict[str, Figures] = {}
        if is_compiled:
            self.compiled = {name: figures(step) for name, step in steps.items()}

    def as_json(self) -> dict[str, Any]:
        """The interface other programs read."""
        totals = self.counted.totals._asdict()
        totals |= {"saved": self.saved.elements, "saved_bytes": self.saved.bytes}
        totals["peak_bytes_predicted"] = self.predicted
        if self.auxiliary:
            totals["params_with_auxiliary"] = totals["params"] + sum(
                row.params for row in self.auxiliary
            )
        if self.compiled:
            totals["compiler"] = {
                name: {**f._asdict(), "peak": f.peak} for name, f in self.compiled.items()
            }
        return {
            "name": self.name,
            "batch": self.batch,
            "dtype": self.dtype,
            "rows": [_json_row(row) for row in self.counted.rows],
            "auxiliary": [_json_row(row) for row in self.auxiliary],
            "totals": totals,
        }

    def as_table(self) -> Table:
        counted, totals = self.counted, self.counted.totals
        (first, *_) = self.subject.inputs.values()
        one = "image" if len(first.shape) == 4 else "example"
        of = one if self.batch == 1 else f"batch of {self.batch}"
        inputs = ", ".join(by(x.shape[1:]) for x in self.subject.inputs.values())
        lines = [{"section": "layers", **self._line(row)} for row in counted.rows]
        lines += [{"section": "auxiliary heads", **self._line(row)} for row in self.auxiliary]
        lines.append(
            {
                "section": "in all",
                "layer": "total, auxiliary heads apart" if self.auxiliary else "total",
                "activations": totals.activations,
                "mib": totals.activation_bytes / MIB,
                "params": totals.params,
                "weights": totals.weights,
                "macs": totals.macs,
            }
        )
        if self.auxiliary:
            params = totals.params + sum(row.params for row in self.auxiliary)
            lines.append({"section": "in all", "layer": "with them", "params": params})
        itemsize = DTYPES[self.dtype].dtype.itemsize
        for definition, elements, bytes in (
            ("input and outputs of each layer, as the deck counts", totals.activations, None),
            ("outputs of convolutions and products alone", totals.outputs, None),
            ("with a copy for each non-linearity", totals.with_nonlinearities, None),
            ("saved by JAX for the backward pass", *self.saved),
        ):
            mib = (elements * itemsize if bytes is None else bytes) / MIB
            line = {"layer": definition, "activations": elements, "mib": mib}
            lines.append({"section": f"activations, by definition, per {of}", **line})
        for step, peak in self.predicted.items():
            line = {"layer": step, "mib": peak / MIB}
            if step in self.compiled:
                found = self.compiled[step]
                line |= {
                    "gflops": found.flops / 1e9,
                    "argument_mib": found.arguments / MIB,
                    "temporary_mib": found.temporaries / MIB,
                    "compiled_mib": found.peak / MIB,
                    "error": peak / found.peak,
                }
            lines.append({"section": "peak memory, predicted", **line})
        return Table(
            f"{self.name}: {inputs}, {self.dtype}, per {of}",
            COLUMNS + (COMPILED_COLUMNS if self.compiled else ()),
            tuple(lines),
            "section",
            NOTES + ((COMPILER_NOTE,) if self.compiled else ()),
        )

    def _line(self, row: Row) -> dict[str, Any]:
        return {
            "layer": row.layer,
            "output_shape": by(row.output_shape),
            "activations": row.activations,
            "mib": row.activations * DTYPES[self.dtype].dtype.itemsize / MIB,
            "params": row.params,
            "weights": row.weights,
            "macs": row.macs,
            "receptive_field": self._field(row.receptive_field),
        }

    def _field(self, extents: tuple[int, ...] | None) -> str | None:
        if extents is None:
            return None
        (first, *_) = self.subject.inputs.values()
        space = first.shape[1:-1]
        if len(extents) == len(space) and all(map(operator.ge, extents, space)):
            return "all"
        return str(extents[0]) if len(set(extents)) == 1 else by(extents)


NOTES = (
    "MACs: multiply-adds of convolutions and products, zeros of the padding included; one MAC is "
    "two FLOPs. Weights: params without biases and without scale and shift of normalisations.",
    "Activations: a bias, a normalisation or a non-linearity overwrites what it is applied to. "
    "Field: of the input, borders not considered; all: as large as the input.",
    "Peak memory: arguments, outputs and temporaries of one call, for a CPU; training with the "
    "parameters and the optimiser's state donated.",
)
COMPILER_NOTE = (
    "GFLOPs and what follows: XLA's own figures for this machine; it counts a loop once. On a CPU "
    "it does not see what a chain of fused convolutions takes inside, so that its memory for "
    "forward is too small there."
)


def traced(name: str, subject: Any) -> Accounting:
    """The accounting, or one line that says why there is none.

    Raises:
        InputError: the function cannot be traced with abstract arrays of these shapes.
    """
    try:
        return account_subject(subject)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{name} cannot be traced: {one_line(error)}") from error


FITS_COLUMNS = (
    Column("program", "program"),
    Column("dtype", "dtype"),
    Column("predicted", "largest batch, predicted", ",d"),
    Column("compiler", "by the compiler", ",d"),
)


def fits(name: str, named: Named, limit: int, dtype: str, optimizer: str) -> Table:
    """The largest batch that fits into `limit` bytes: of each program and dtype, as predicted, and
    of one training step as the compiler says.
    """

    def step(program: str, kind: str, batch: int) -> Step:
        subject = named.subject(batch, DTYPES[kind])
        return forward(subject) if program == "forward" else training_step(subject, program)

    rows = []
    for program in ("forward", *OPTIMIZERS):
        for kind in DTYPES:
            fitting = largest_batch(
                lambda batch, p=program, k=kind: predicted_peak(step(p, k, batch)), limit
            )
            row: dict[str, Any] = {"program": program, "dtype": kind, "predicted": fitting}
            if (program, kind) == (optimizer, dtype):
                row["compiler"] = largest_batch(
                    lambda batch, p=program, k=kind: figures(step(p, k, batch)).peak, limit, fitting
                )
            rows.append(row)
    gib = limit / 2**30
    note = "By the compiler: of one program, for it compiles at several batches. 0: not even one."
    return Table(f"{name}: largest batch in {gib:g} GiB", FITS_COLUMNS, tuple(rows), None, (note,))


def by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _json_row(row: Row) -> Mapping[str, Any]:
    field = row.receptive_field
    return {
        **row._asdict(),
        "output_shape": list(row.output_shape),
        "receptive_field": None if field is None else field[0] if len(set(field)) == 1 else field,
    }
