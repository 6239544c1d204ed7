"""The experiments that count: verdicts on the deck, predictions, the picture of all networks."""

import json

import pytest

from experiments import complexity, training_memory, vgg_accounting
from seqlab.errors import InputError
from seqlab.models.convnets import NETWORKS
from seqlab.tables import render


def done(trial, metrics, status="DONE"):
    from seqlab.trial import as_dict

    return {"trial_id": "x", "config": as_dict(trial), "status": status, "metrics": metrics}


@pytest.fixture(scope="module")
def vgg_table():
    (trial,) = vgg_accounting.trials("smoke")
    vgg_accounting.check(trial)
    metrics = json.loads(json.dumps(vgg_accounting.run(trial)))  # as it is kept
    return vgg_accounting.table([done(trial, metrics)])


def test_every_row_of_the_deck_agrees(vgg_table):
    layers = [row for row in vgg_table.rows if row["section"] == "layers"]
    assert len(layers) == len(vgg_accounting.DECK) == 22
    assert {row["verdict"] for row in layers} == {"agrees"}
    weights = [int(weights.replace(",", "")) for _, _, weights in vgg_accounting.DECK]
    assert [row["weights"] for row in layers] == weights


def test_the_decks_total_of_memory_follows_from_no_definition(vgg_table):
    totals = [row for row in vgg_table.rows if row.get("deck_memory") == "24M"]
    assert [row["memory"] for row in totals] == [15_237_608, 13_556_712, 28_793_320]
    assert all("does not follow" in row["verdict"] for row in totals)
    (params,) = [row for row in vgg_table.rows if row["layer"] == "params with biases"]
    assert (params["weights"], params["verdict"]) == (138_357_544, "params agree")


@pytest.mark.parametrize(
    ("printed", "exact", "agrees"),
    [
        ("3.2M", 3_211_264, True),
        ("3.2M", 3_251_000, False),
        ("800K", 802_816, True),
        ("800K", 860_000, False),
        ("150K", 150_528, True),
        ("24M", 15_237_608, False),
        ("24M", 24_400_000, True),
        ("1,728", 1_728, True),
        ("1,728", 1_729, False),
        ("0", 0, True),
    ],
)
def test_verdict_is_at_the_printed_digits(printed, exact, agrees):
    assert vgg_accounting._agrees(printed, exact) is agrees


def test_prediction_is_set_against_the_compiler():
    trial = training_memory.Trial("smoke", "lenet5", 4)
    training_memory.check(trial)
    metrics = training_memory.run(trial)
    failed = training_memory.Trial("smoke", "vgg_small", 4)
    table = training_memory.table([done(trial, metrics), done(failed, None, "OOM")])
    line, other = table.rows
    assert line["error"] == pytest.approx(100 * (metrics["predicted"] / metrics["compiled"] - 1))
    assert table.notes[0].startswith("1 of 1 within 10%.")
    assert other["save"] == "OOM"


def test_all_networks_and_batches_are_planned():
    planned = training_memory.trials("default")
    assert {(t.name, t.batch) for t in planned if t.steps is None} == {
        (name, batch) for name in NETWORKS for batch in (1, 8, 32)
    }
    for trial in planned:
        training_memory.check(trial)
    with pytest.raises(InputError, match="Did you mean 'vgg16'"):
        training_memory.check(training_memory.Trial("smoke", "vvg16", 4))


def test_complexity_has_every_network_and_draws_those_with_an_accuracy():
    names = [trial.network for trial in complexity.trials("smoke")]
    assert names == list(NETWORKS)
    published = {cell for _, _, cell in complexity.PUBLISHED}
    assert published <= set(NETWORKS)
    rows = []
    for number, name in enumerate(("alexnet", "googlenet", "resnet18", "unet_small"), 1):
        counts = {"macs": 10**9 * number, "params": 61_000_000 // number}
        memory = {"activation_bytes": 2**20 * number, "training_bytes": 2**30}
        metrics = {"input_shape": [224, 224, 3], **counts, **memory}
        rows.append(done(complexity.Trial(name), metrics))
    table = complexity.table(rows)
    assert "1/2.0 of it" in table.notes[-1]
    assert "resnet18" in render(table, "markdown")
    figure = complexity.figures(rows)["complexity"]
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert drawn == ["alexnet", "resnet18"]
