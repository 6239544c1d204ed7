"""From names on the command line to subjects: networks, cells, files of one's own."""

import textwrap

import jax.numpy as jnp
import pytest

from seqlab.accounting import account
from seqlab.accounting.compiled import figures, training_step
from seqlab.accounting.memory import predicted_peak
from seqlab.accounting.named import Sizes, find
from seqlab.accounting.report import Report, fits
from seqlab.errors import InputError
from seqlab.tables import FORMATS, render


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        textwrap.dedent(
            """
            import flax.linen as nn
            import jax
            import jax.numpy as jnp

            from seqlab.cells import CELLS

            def layer(x, w, b):
                return jax.nn.relu(x @ w + b[None])

            def endless(x):
                return jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y * 2, x)

            def untraceable(x):
                return x if x.sum() > 0 else -x

            class Twice(nn.Module):
                @nn.compact
                def __call__(self, x):
                    return nn.Dense(7, name="second")(nn.Dense(5, name="first")(x))

            twice = Twice()
            cell = CELLS["gru"]
            number = 3
            """
        )
    )
    return path


def counted(name, **sizes):
    return account(find(name, Sizes(**sizes)).subject(1, jnp.float32))


def test_network_with_its_own_size_of_image():
    assert counted("lenet5").totals.params == 61_706
    larger = counted("lenet5", inputs=[(64, 64, 1)])
    assert larger.totals.params > 61_706


def test_cell_of_any_size():
    rows = {row.layer: row for row in counted("mut1", hidden=20, steps=7).rows}
    assert rows["w_hh"].macs == 7 * 20 * 20
    rows = {row.layer: row for row in counted("lstm", inputs=[(3,)], hidden=20, steps=7).rows}
    assert rows["w_xi"].macs == 7 * 3 * 20
    assert rows["w_hi"].output_shape == (7, 20)


def test_function_module_and_cell_of_a_file(own_file):
    params = {"w": (4, 6), "b": (6,)}
    totals = counted(f"{own_file}:layer", inputs=[(4,)], params=params).totals
    assert (totals.params, totals.weights, totals.macs) == (30, 24, 24)
    rows = counted(f"{own_file}:twice", inputs=[(3,)]).rows
    assert [(row.layer, row.params) for row in rows[1:]] == [("first", 20), ("second", 42)]
    assert counted(f"{own_file}:cell", hidden=5, steps=2).totals.macs == 2 * 6 * 25


@pytest.mark.parametrize(
    ("name", "sizes", "says"),
    [
        ("vvg16", {}, "no network or cell 'vvg16'. Did you mean 'vgg16'"),
        ("lsmt", {}, "no network or cell 'lsmt'. Did you mean 'lstm'"),
        ("nowhere.py:f", {}, "no file nowhere.py"),
        ("vgg16", {"inputs": [(224, 224)]}, "--input of vgg16 is H,W,C such as 224,224,3"),
        ("vgg16", {"inputs": [(16, 16, 3)]}, "vgg16: pool5: window 2×2 does not fit into its"),
        ("alexnet", {"inputs": [(9, 9, 3)]}, "alexnet: conv1: window 11×11 does not fit"),
        ("gru", {"inputs": [(3, 4)]}, "--input of the cell gru is D, one number"),
        ("mut1", {"inputs": [(3,)], "hidden": 5}, "mut1:"),
    ],
)
def test_one_line_says_what_is_wrong(name, sizes, says):
    with pytest.raises(InputError) as caught:
        find(name, Sizes(**sizes)).subject(1, jnp.float32)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "sizes", "says"),
    [
        ("laier", {"inputs": [(4,)]}, "Did you mean 'layer'"),
        ("number", {}, "neither a function nor a Linen module nor a cell"),
        ("layer", {"inputs": [(4,)]}, "3 arguments are not a --param, and there are 1 --input"),
        ("layer", {"params": {"v": (4,)}}, "no argument 'v'"),
        ("twice", {}, "takes one --input"),
        ("untraceable", {"inputs": [(4,)]}, "cannot be traced: Attempted boolean conversion"),
        ("endless", {"inputs": [(4,)]}, "cannot be traced: it has a while loop"),
    ],
)
def test_what_is_wrong_with_a_file_of_ones_own(own_file, attribute, sizes, says):
    name = f"{own_file}:{attribute}"
    with pytest.raises(InputError) as caught:
        Report(attribute, find(name, Sizes(**sizes)), 1, "float32", is_compiled=False)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_report_of_every_format_has_every_layer():
    report = Report("lenet5", find("lenet5", Sizes()), 2, "bfloat16", is_compiled=False)
    layers = [row["layer"] for row in report.as_json()["rows"]]
    assert len(layers) == 8  # the input, two convolutions, two pools, three products
    for format in FORMATS:
        shown = render(report.as_table(), format)
        assert all(layer in shown for layer in layers)
    totals = report.as_json()["totals"]
    assert totals["activation_bytes"] == 2 * totals["activations"]  # two bytes each
    assert set(totals["peak_bytes_predicted"]) == {"forward", "sgd", "momentum", "adam"}


def test_auxiliary_heads_stand_apart():
    report = Report("googlenet", find("googlenet", Sizes()), 1, "float32", is_compiled=False)
    found = report.as_json()
    assert found["totals"]["params"] == 6_998_552
    assert {row["layer"].split("/")[0] for row in found["auxiliary"]} == {
        "auxiliary1",
        "auxiliary2",
    }
    heads = sum(row["params"] for row in found["auxiliary"])
    assert found["totals"]["params_with_auxiliary"] == 6_998_552 + heads


def test_largest_batch_is_the_largest():
    named = find("lenet5", Sizes())
    limit = 20 * 2**20
    table = fits("lenet5", named, limit, "float32", "sgd")
    (row,) = [r for r in table.rows if (r["program"], r["dtype"]) == ("sgd", "float32")]
    for key, peak in (("predicted", _predicted), ("compiler", _compiled)):
        assert peak(named, row[key]) <= limit < peak(named, row[key] + 1)


def _predicted(named, batch):
    return predicted_peak(training_step(named.subject(batch, jnp.float32), "sgd"))


def _compiled(named, batch):
    return figures(training_step(named.subject(batch, jnp.float32), "sgd")).peak
