"""Every term of the slide's sum is the derivative by the W of one step, and tables say so."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import bptt_by_hand
from experiments.bptt_by_hand import HIDDEN, Setting, Trial, drawn
from seqlab import tables
from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.recurrence import unroll
from seqlab.trial import BUDGETS, as_dict, trial_id

TRIALS = bptt_by_hand.trials("smoke")
STEP = 1e-30  # in the imaginary direction: the derivative without a difference


@pytest.fixture(scope="module")
def metrics() -> dict[Trial, dict]:
    return {trial: json.loads(json.dumps(bptt_by_hand.run(trial))) for trial in TRIALS}


def each(trial: Trial, metrics: dict[Trial, dict]) -> dict[tuple[int, int], dict]:
    terms = metrics[trial]["terms"]
    by_place = {(term["t"], term["k"]): term for term in terms}
    assert len(by_place) == len(terms) == trial.steps * (trial.steps + 1) // 2
    return by_place


# Oracle: in rows, each step with a W of its own, one number nudged at a time


def errors_and_states(setting: Setting, ws: np.ndarray, v: np.ndarray, nudged=None):
    """E_t [T] and h_t [T, H]; `nudged` is what is added to h after a step: step, [H]."""
    h, errors, states = setting.before, [], []
    for step, (x, y) in enumerate(zip(setting.xs, setting.ys, strict=True)):
        h = np.tanh(x @ setting.weights.u.T + h @ ws[step].T)
        if nudged and nudged[0] == step:
            h = h + nudged[1]
        z = h @ v.T
        errors.append(np.log(np.exp(z).sum()) - z[y.argmax()])
        states.append(h)
    return np.array(errors), np.array(states)


def nudge(shape: tuple[int, ...], place: tuple[int, ...]) -> np.ndarray:
    change = np.zeros(shape, complex)
    change[place] = 1j * STEP
    return change


def derivatives(setting: Setting) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """∂E_t/∂W_k [T, T, H, H], ∂h_t/∂W_k [T, H, T, H, H], ∂E_t/∂V [T, A, H], ∂h_t/∂h_k."""
    steps, (_, w, v) = len(setting.xs), setting.weights
    ws = np.broadcast_to(w, (steps, *w.shape))
    de_dw = np.zeros((steps, *ws.shape))
    dh_dw = np.zeros((steps, HIDDEN, *ws.shape))
    for k, m, n in np.ndindex(*ws.shape):
        errors, states = errors_and_states(setting, ws + nudge(ws.shape, (k, m, n)), v)
        de_dw[:, k, m, n] = errors.imag / STEP
        dh_dw[:, :, k, m, n] = states.imag / STEP
    de_dv = np.zeros((steps, *v.shape))
    for place in np.ndindex(*v.shape):
        errors, _ = errors_and_states(setting, ws, v + nudge(v.shape, place))
        de_dv[:, *place] = errors.imag / STEP
    dh_dh = np.zeros((steps, HIDDEN, steps, HIDDEN))
    for k, n in np.ndindex(steps, HIDDEN):
        _, states = errors_and_states(setting, ws, v, (k, nudge((HIDDEN,), (n,))))
        dh_dh[:, :, k, n] = states.imag / STEP
    return de_dw, dh_dw, de_dv, dh_dh


@pytest.fixture(scope="module")
def oracle():
    return {trial: derivatives(drawn(trial)) for trial in TRIALS}


def close(actual, expected, atol=0.0):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=atol)


# The sums


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_every_term_is_the_derivative_by_the_w_of_its_step(trial, metrics, oracle):
    setting = drawn(trial)
    hs, predictions = bptt_by_hand.forward(setting)
    de_dw, _, de_dv, dh_dh = oracle[trial]
    for (t, k), found in each(trial, metrics).items():
        ours = bptt_by_hand.term(setting, hs, predictions[t], t, k)
        np.testing.assert_allclose(ours, de_dw[t, k], rtol=0, atol=1e-12 * np.abs(ours).max())
        norms = [np.sqrt((de_dw[t, j] ** 2).sum()) for j in range(t + 1)]
        truncated, whole = de_dw[t, k:].sum(0), de_dw[t].sum(0)
        close(found["norm"], norms[k])
        close(found["share"], norms[k] / math.fsum(norms))
        close(found["sum"], np.sqrt((truncated**2).sum()))
        left_out = np.sqrt(((whole - truncated) ** 2).sum() / (whole**2).sum())
        close(found["left_out"], left_out, atol=1e-12)
        close(found["jacobian"], np.linalg.svd(dh_dh[t, :, k])[1].max())
    for t, found in enumerate(metrics[trial]["outputs"]):
        assert found["t"] == t
        close(found["norm"], np.sqrt((de_dv[t] ** 2).sum()))


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_every_sum_is_jax_gradient_of_its_window_and_of_no_other(trial, metrics, oracle):
    terms = each(trial, metrics).values()
    others = (*metrics[trial]["outputs"], *metrics[trial]["totals"])
    differences = [found["difference"] for found in (*terms, *others)]
    assert max(differences) <= 1e-12
    assert metrics[trial]["largest_difference"] == max(differences)
    t, setting, de_dw = trial.steps - 1, drawn(trial), oracle[trial][0]
    with jax.enable_x64(True):
        last = np.eye(trial.steps)[t]
        theirs = np.asarray(bptt_by_hand.by_jax(setting, last, np.arange(trial.steps)).w)
    largest = np.abs(theirs[0]).max()
    for k in range(trial.steps):
        np.testing.assert_allclose(theirs[k], de_dw[t, k:].sum(0), rtol=0, atol=1e-12 * largest)
        if k > 0:  # so much moves with the edge of the window
            gap = np.abs(theirs[k - 1] - theirs[k]).max()
            assert gap > max(1e-12 * largest, np.abs(de_dw[t, k - 1]).max() / 2)
    if trial.steps == 4:
        assert np.abs(theirs[1:] - theirs[0]).max((1, 2)).min() > 1e-3


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_norms_are_bound_by_the_spectral_radius_and_shares_are_of_one(trial, metrics):
    by_place = each(trial, metrics)
    w = drawn(trial).weights.w
    close(np.abs(np.linalg.eigvals(w)), trial.spectral_radius)
    for (t, k), found in by_place.items():
        bound = trial.spectral_radius ** (t - k)
        assert found["jacobian"] <= bound * (1 + 1e-12)
        if trial.signal < 1:  # tanh is linear
            assert found["jacobian"] == pytest.approx(bound, rel=1e-3)
    for t in range(trial.steps):
        assert math.fsum(by_place[t, k]["share"] for k in range(t + 1)) == pytest.approx(1)
        assert by_place[t, 0]["left_out"] == 0


def test_the_gradient_vanishes_and_explodes(metrics):
    reach = {trial: each(trial, metrics)[trial.steps - 1, 0]["jacobian"] for trial in TRIALS}
    below = [found for trial, found in reach.items() if trial.spectral_radius < 1]
    assert max(below) < 0.5**3
    assert reach[Trial(1.5, 20, 1e-5)] > 1000
    assert reach[Trial(1.5, 20)] < 0.01  # tanh is saturated


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("direct", lambda right: lambda h, before: right(h, h)),
        ("direct", lambda right: lambda h, before: right(np.zeros_like(h), before)),
        ("direct", lambda right: lambda h, before: right(h, before).swapaxes(1, 2)),
        ("dh_dh", lambda right: lambda w, hs, t, k: right(w, hs, t, min(k + 1, t))),
        ("dh_dh", lambda right: lambda w, hs, t, k: right(w.T, hs, t, k)),
        ("dh_dh", lambda right: lambda w, hs, t, k: right(w, hs, t, k).T),
    ],
    ids=["h_k", "no tanh", "transposed ∂⁺", "a factor less", "W transposed", "order"],
)
def test_a_wrong_sum_is_seen(name, wrong, monkeypatch):
    monkeypatch.setattr(bptt_by_hand, name, wrong(getattr(bptt_by_hand, name)))
    found = bptt_by_hand.run(Trial(1.5))
    assert found["largest_difference"] > 1e-3
    assert "differs" in {
        row["verdict"] for row in bptt_by_hand.table([row(Trial(1.5), found)]).rows
    }


def test_with_the_whole_derivative_of_h_k_term_k_counts_again_and_again(oracle):
    trial, t = Trial(1.0), 3
    setting = drawn(trial)
    _, predictions = bptt_by_hand.forward(setting)
    de_dw, dh_dw, _, dh_dh = oracle[trial]
    de_dh = (predictions[t] - setting.ys[t]) @ setting.weights.v
    whole = [np.einsum("a,ab,bkmn->mn", de_dh, dh_dh[t, :, k], dh_dw[k]) for k in range(t + 1)]
    again = sum((t - k + 1) * de_dw[t, k] for k in range(t + 1))
    np.testing.assert_allclose(sum(whole), again, rtol=0, atol=1e-12)
    assert np.abs(again - de_dw[t].sum(0)).max() > 0.1


# The decks' exercise

LETTERS = {"h": [1, 0, 0, 0], "e": [0, 1, 0, 0], "l": [0, 0, 1, 0], "o": [0, 0, 0, 1]}


@pytest.mark.parametrize("words", [("hello",), ("hello", "eolll", "lleel")])
def test_the_exercise_in_batches_by_the_library(words, float64):
    settings = [drawn(Trial(1.5, len(word), word=word)) for word in words]
    xs = np.array([[LETTERS[letter] for letter in word] for word in words], float)
    assert xs.shape == (len(words), 5, 4)
    np.testing.assert_array_equal([setting.xs for setting in settings], xs)
    np.testing.assert_array_equal([s.ys[:-1] for s in settings], xs[:, 1:])
    ys = jnp.asarray([setting.ys for setting in settings])
    u, w, v = settings[0].weights
    before = jnp.broadcast_to(jnp.asarray(settings[0].before), (len(words), HIDDEN))

    def error(w):
        params = {"w_xh": u.T, "w_hh": w.T, "b_h": jnp.zeros(HIDDEN)}
        _, hs = unroll(CELLS["rnn"], params, before, jnp.asarray(xs))
        return -jnp.sum(ys * jax.nn.log_softmax(hs @ v.T)), hs

    gradient, hs = jax.grad(error, has_aux=True)(jnp.asarray(w))
    assert hs.shape == (len(words), 5, 2)
    total = np.zeros_like(w)
    for setting, theirs in zip(settings, hs, strict=True):
        ours, predictions = bptt_by_hand.forward(setting)
        np.testing.assert_allclose(ours[:-1], theirs, rtol=0, atol=1e-12)
        for t, prediction in enumerate(predictions):
            total += sum(bptt_by_hand.term(setting, ours, prediction, t, k) for k in range(t + 1))
    np.testing.assert_allclose(total, gradient, rtol=0, atol=1e-12)


# The numbers that a lecture shows


@functools.cache
def jax_gradient(trial: Trial, steps: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """∂(Σ of the E_t of some steps)/∂V and /∂W, of a network written in rows."""
    setting = drawn(trial)

    def error(v, w):
        h, errors = jnp.asarray(setting.before), []
        for x, y in zip(setting.xs, setting.ys, strict=True):
            h = jnp.tanh(x @ setting.weights.u.T + h @ w.T)
            errors.append(jax.nn.logsumexp(h @ v.T) - (h @ v.T)[y.argmax()])
        return sum(errors[t] for t in steps)

    with jax.enable_x64(True):
        _, w, v = map(jnp.asarray, setting.weights)
        return tuple(map(np.asarray, jax.grad(error, (0, 1))(v, w)))  # pyright: ignore


def printed(cell: str) -> np.ndarray:
    """The numbers of a cell of the table, rows on lines of their own."""
    matrix = np.array(json.loads(cell))
    assert len(cell.splitlines()) == len(matrix)
    return matrix


def test_the_printed_matrices_add_up_to_jax_gradients(metrics):
    short = [trial for trial in TRIALS if trial.steps == 4]
    table = bptt_by_hand.table([row(trial, metrics[trial]) for trial in short])
    shown = list(table.rows)
    everything = tuple(range(4))
    for trial in short:
        section = [shown.pop(0) for _ in range(4 + 10 + 2)]
        lines = {
            name: [line for line in section if line["gradient"].startswith(name)]
            for name in (*(f"∂E_{t}/∂{of}" for t in range(4) for of in "VW"), "∂E/∂V", "∂E/∂W")
        }
        for place, of in enumerate("VW"):
            gradients = [(jax_gradient(trial, (t,)), lines[f"∂E_{t}/∂{of}"]) for t in range(4)]
            whole = jax_gradient(trial, everything)
            every = [line for _, parts in gradients for line in parts]
            for expected, parts in (*gradients, (whole, every), (whole, lines[f"∂E/∂{of}"])):
                total = sum(np.array(line["matrix"]) for line in parts)
                np.testing.assert_allclose(total, expected[place], rtol=0, atol=1e-12)
            (total,) = lines[f"∂E/∂{of}"]
            assert total["gradient"] == f"∂E/∂{of} = Σ_t ∂E_t/∂{of}"
            close(total["sum"], np.sqrt((whole[place] ** 2).sum()))
            for line in (*every, total):
                np.testing.assert_allclose(printed(line["shown"]), line["matrix"], rtol=5e-4)
    assert shown == []
    for cell in (line["shown"] for line in table.rows):
        assert all(line in tables.render(table, "text") for line in cell.splitlines())


def test_a_matrix_is_printed_with_four_digits_below_each_other():
    assert bptt_by_hand.written([[0.12345, -3.0], [-0.0012344, 1e-6]]) == (
        "[[ 0.1235  , -3.000    ],\n [-0.001234,  1.000e-06]]"
    )


def test_long_texts_repeat_the_word():
    letters = "".join("helo"[y.argmax()] for y in drawn(Trial(1.0, 12)).ys)
    assert letters == "ellohellohel"


# The table and the figure


def row(trial: Trial, metrics: dict | None, status: str = "DONE") -> dict:
    config = as_dict(trial)
    return {"trial_id": trial_id(trial), "config": config, "status": status, "metrics": metrics}


def test_the_table_shows_the_metrics_term_by_term(metrics):
    rows = [row(trial, metrics[trial]) for trial in reversed(TRIALS)]
    shown = json.loads(tables.render(bptt_by_hand.table(rows), "json"))["rows"]
    for trial in TRIALS:
        errors = range(4) if trial.steps == 4 else [trial.steps - 1]
        for t in errors:
            output, *terms = shown[: t + 2]
            shown = shown[t + 2 :]
            assert all((line["matrix"] is None) == (trial.steps > 4) for line in (output, *terms))
            about = f"hello, {trial.steps} steps" + ", signal 1e-05" * (trial.signal < 1)
            headings = {line["setting"] for line in (output, *terms)}
            assert headings == {f"{about}, ρ = {trial.spectral_radius:g}"}
            assert {line["verdict"] for line in (output, *terms)} == {"agrees"}
            assert output["gradient"] == f"∂E_{t}/∂V"
            expected = metrics[trial]["outputs"][t]
            assert {key: output[key] for key in expected} == expected
            assert [line["k"] for line in terms] == list(range(t, -1, -1))
            for line in terms:
                expected = each(trial, metrics)[t, line["k"]]
                assert {key: line[key] for key in expected} == expected
                assert line["gradient"] == f"∂E_{t}/∂W"
                assert line["window"] == t - line["k"] + 1
                assert line["bound"] == trial.spectral_radius ** (t - line["k"])
        if trial.steps == 4:
            totals, shown = shown[:2], shown[2:]
            for line, expected in zip(totals, metrics[trial]["totals"], strict=True):
                assert line["gradient"] == "∂E/∂{0} = Σ_t ∂E_t/∂{0}".format(expected["of"])
                assert line["difference"] == expected["difference"] <= 1e-12
    assert shown == []


def test_the_table_counts_what_agrees_and_names_what_failed(metrics):
    trial, other = TRIALS[:2]
    found = json.loads(json.dumps(metrics[trial]))
    found["terms"][0]["difference"] = 1.1e-12
    table = bptt_by_hand.table([row(trial, found), row(other, None, "FAILED")])
    assert "15 of 16 gradients agree" in table.notes[-1]
    assert next(line["verdict"] for line in table.rows if "k" in line) == "differs"
    assert table.rows[-1] == {"setting": "hello, 4 steps, ρ = 1", "gradient": "FAILED"}
    text = tables.render(table, "text")
    assert f"{found['terms'][-1]['share']:.1%}" in text


def test_the_figure_draws_every_norm(metrics):
    rows = [row(trial, metrics[trial]) for trial in reversed(TRIALS)]
    rows.append(row(Trial(0.5, 4, word="eolll"), None, "OOM"))
    (figure,) = bptt_by_hand.figures(rows).values()
    panels = np.array(figure.axes).reshape(2, 3)
    for number, trial in enumerate(TRIALS):
        place, radius = divmod(number, 3)
        terms = each(trial, metrics)
        last = [(trial.steps - 1, k) for k in range(trial.steps - 1, -1, -1)]
        for panel, key in zip(panels[:, place], ("jacobian", "norm"), strict=True):
            dots = {tuple(dot) for dot in panel.collections[radius].get_offsets().tolist()}
            assert dots == {(t - k, found[key]) for (t, k), found in terms.items()}
            lines = {line.get_label(): line for line in panel.lines}
            back, values = lines[f"ρ = {trial.spectral_radius:g}"].get_data()
            assert list(back) == list(range(trial.steps))
            assert list(values) == [terms[at][key] for at in last]
            assert panel.get_yscale() == "log"
    assert bptt_by_hand.figures(rows[-1:]) == {}


# What can be run


def test_every_budget_is_the_same():
    assert all(bptt_by_hand.trials(budget) == TRIALS for budget in BUDGETS)
    for trial in TRIALS:
        bptt_by_hand.check(trial)


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        (Trial(0.0), "spectral_radius is above 0, at most 2, not 0"),
        (Trial(2.5), "spectral_radius"),
        (Trial(1.0, 0), "steps are from 1 to 30, not 0"),
        (Trial(1.0, 31), "steps"),
        (Trial(1.0, signal=0.0), "signal is above 0, at most 1, not 0"),
        (Trial(1.0, signal=2.0), "signal"),
        (Trial(1.0, word="help"), "letters h, e, l, o, not 'help'"),
        (Trial(1.0, word=""), "letters"),
        (Trial(1.0, seed=-1), "seed is at least 0"),
    ],
)
def test_what_cannot_be_run_is_told_in_one_line(trial, message):
    with pytest.raises(InputError, match=message) as caught:
        bptt_by_hand.check(trial)
    assert "\n" not in str(caught.value)
