"""The report shows everything, fetches nothing, and works in a browser without a network."""

import html.parser
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from invented import BASE, CELLS, commit, grid

from experiments import mut_vs_lstm_gru as mut
from seqlab import figures, report, results
from seqlab.report.trials import trials_table
from seqlab.tables import Table
from seqlab.tables.table import cell_text, sections
from seqlab.trial import as_dict

NAME = "mut_vs_lstm_gru"
NASTY = "<script>window.attacked = true</script><b>bold</b> & \"'</script><!--"


def nasty_config() -> dict:
    config = as_dict(BASE)
    data = config["data"] | {"<i>field</i>": NASTY}
    return config | {"data": data, "task": NASTY, "budget": "smoke"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A search and its seeds, with troubles, and two results full of what could be HTML."""
    folder = tmp_path_factory.mktemp("results")
    for number, trial in enumerate(grid()):
        status = {0: results.DIVERGED, 9: results.FAILED}.get(number, results.DONE)
        commit(folder, trial, status, error=None if status == "DONE" else "lost\nthe cause")
    error = f"Traceback:\n  {NASTY}\nValueError: {NASTY}"
    nasty = nasty_config()
    commit(folder, BASE, results.FAILED, error=error, config=nasty, trial_id="a" * 16)
    nasty |= {"model": nasty["model"] | {"cell": NASTY}}
    values = {"valid_nll": 1.0, "test_nll": 2.0, "test_accuracy": 0.1, "<u>m</u>": 3.0}
    values |= {"units": 3, "params": 9, "seconds_per_step": 0.1}
    commit(folder, BASE, metrics=values, config=nasty, trial_id="b" * 16)
    return folder


@pytest.fixture(scope="module")
def rows(root):
    return results.rows(root, NAME)


@pytest.fixture(scope="module")
def page(root, rows, tmp_path_factory) -> Path:
    picture = tmp_path_factory.mktemp("pictures") / "own.svg"
    picture.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"/>')
    charts = figures.charts(rows, root / NAME)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.page(comparison(rows), rows, charts, [picture]), encoding="utf-8")
    return path


def comparison(rows) -> Table:
    """Of one task, and of the same results as if they were of another: two sections."""
    known = [row for row in rows if row["config"]["task"] == "xml"]
    others = [row | {"config": row["config"] | {"task": "arithmetic"}} for row in known]
    return mut.table(known + others)


class Elements(html.parser.HTMLParser):
    """All tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while tag in self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.text.append(data)


def test_nothing_is_fetched(page):
    """No element names anything outside of the page, and the page forbids itself to ask."""
    elements = Elements(page.read_text())
    for tag, attributes in elements.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "srcset", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    (policy,) = (a["content"] for t, a in elements.tags if a.get("http-equiv"))
    rules = {rule.split()[0]: rule.split()[1:] for rule in (policy or "").split(";")}
    assert rules["default-src"] == rules["form-action"] == ["'none'"]
    assert not any("http" in source or source == "*" for rule in rules.values() for source in rule)


def test_what_comes_from_results_is_text(page):
    written = page.read_text()
    assert "<script>window.attacked" not in written
    elements = Elements(written)
    assert not {"b", "i", "u"} & {tag for tag, _ in elements.tags}
    text = "".join(elements.text)
    assert f"aaaaaaaaaaaaaaaa FAILED: ValueError: {NASTY}" in text
    assert "the cause" in text
    # a name in JSON inside of a script must not end it
    scripts = sum(tag == "script" for tag, _ in elements.tags)
    assert scripts == len(re.findall(r"</script\s*>", written, re.I))


def test_every_failure_is_told_and_folded(page, rows):
    elements = Elements(page.read_text())
    folded = [attributes for tag, attributes in elements.tags if tag == "details"]
    failed = [row for row in rows if row["status"] != results.DONE]
    assert len(folded) == len(failed) == 3
    assert not any("open" in attributes for attributes in folded)
    text = "".join(elements.text)
    for row in failed:
        assert f"{row['trial_id']} {row['status']}: {row['error'].splitlines()[-1]}" in text
        assert row["error"] in text


def test_the_trials_are_all_there_with_what_differs(rows):
    trials, common = trials_table(rows)
    assert trials["trial_id"].to_list() == [row["trial_id"] for row in rows]
    assert trials["status"].to_list() == [row["status"] for row in rows]
    assert trials["test_nll"].to_list() == [row["metrics"].get("test_nll") for row in rows]
    assert trials["model.cell"].to_list() == [row["config"]["model"]["cell"] for row in rows]
    assert trials.columns[:3] == ["trial_id", "status", "model.cell"]
    assert "train.batch_size" not in trials.columns
    assert "train.batch_size=20" in re.split("[:,.] ", common)


def test_where_results_come_from_is_told(page, rows):
    text = "".join(Elements(page.read_text()).text)
    source = rows[0]["provenance"]
    told = [source["code_sha256"][:10], source["machine"], f"jax {source['packages']['jax']}"]
    for part in [*told, results.digest(rows), source["matmul_precision"]]:
        assert part in text


def test_no_results_of_interest_still_make_a_page(tmp_path):
    commit(tmp_path, grid()[0], results.FAILED, error="no")
    rows = results.rows(tmp_path, NAME)
    assert figures.charts(rows, tmp_path / NAME) == []
    elements = Elements(report.page(mut.table(rows), rows, [], []))
    assert "Trials: 1 FAILED" in elements.text


# The command


def test_the_command_writes_one_file_and_prints_where(command, tmp_path):
    for trial in grid()[::8]:
        commit(tmp_path / "results", trial)
    code, out, err = command("report", NAME)
    written = tmp_path / "results" / NAME / "report.html"
    assert (code, out, err) == (0, f"{written}\n", "")
    code, out, err = command("report", NAME, "--output", "x.html", "--only", "model.cell=gru")
    assert (code, out, err) == (0, "x.html\n", "")
    everything, part = ("".join(Elements(p.read_text()).text) for p in (written, Path("x.html")))
    assert "mut1" in everything
    assert "mut1" not in part


def test_what_cannot_be_reported_is_one_line(command, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    commit(tmp_path / "results", grid()[0])
    wrong = {
        ("--results-dir", "nowhere"): "no results of mut_vs_lstm_gru yet",
        ("--output", "file/x.html"): "file/x.html cannot be written",
        ("--by", "model.cel"): "Did you mean 'model.cell'?",
        ("--metric", "test_nl"): "Did you mean 'test_nll'?",
    }
    for arguments, part in wrong.items():
        code, out, err = command("report", NAME, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert part in err
    for library in ("plotly", "itables"):
        with monkeypatch.context() as patch:
            for name in [n for n in sys.modules if n.partition(".")[0] == library]:
                patch.delitem(sys.modules, name)
            for name in [n for n in sys.modules if n.startswith("seqlab.report")]:
                patch.delitem(sys.modules, name)
            patch.delitem(sys.modules, "seqlab.figures.interactive")
            patch.delattr("seqlab.figures.interactive")
            patch.delattr("seqlab.report")
            patch.setitem(sys.modules, library, None)
            code, out, err = command("report", NAME)
        assert (code, out) == (2, "")
        assert err.startswith("error: a report needs ")
        assert err.endswith("pip install -e '.[report]'\n")
        assert err.count("\n") == 1


# In a browser


@pytest.fixture(scope="module")
def browser(page):
    """The page in the system's Chromium, which reaches no host."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs a browser: chromium and chromedriver on the PATH")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1340,900"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    opened = webdriver.Chrome(options=options, service=service)
    try:
        opened.set_network_conditions(
            offline=True, latency=0, download_throughput=0, upload_throughput=0
        )
        opened.get(page.as_uri())
        wait(lambda: opened.find_elements("css selector", "#trials tbody tr td:nth-child(3)"))
        yield opened
    finally:
        opened.quit()


def wait(found, seconds: float = 30.0):
    until = time.monotonic() + seconds
    while not (there := found()):
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)
    return there


def column(browser, title: str, table: str = "trials") -> list[str]:
    """What is shown of a column of a table, the headings of its sections included."""
    return browser.execute_script(
        """
        const heads = `#${arguments[1]}_wrapper .dt-scroll-head th .dt-column-title`;
        const titles = [...document.querySelectorAll(heads)].map(each => each.textContent);
        const cells = `td:nth-child(${titles.indexOf(arguments[0]) + 1}), th`;
        const rows = [...document.querySelectorAll(`#${arguments[1]} tbody tr`)];
        return rows.map(row => row.querySelector(cells).textContent);
        """,
        title,
        table,
    )


def numbers(browser, title: str) -> list[float | None]:
    return [float(text) if text else None for text in column(browser, title)]


def heading(browser, title: str, table: str = "trials"):
    for each in browser.find_elements("css selector", f"#{table}_wrapper .dt-scroll-head th"):
        shown = each.find_elements("css selector", ".dt-column-title")
        if shown and shown[0].get_attribute("textContent") == title:
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", each)
            return each
    raise AssertionError(f"no column {title}")


@pytest.mark.slow
def test_in_a_browser_there_is_no_error_and_nothing_was_asked_for(browser):
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(each => each.name)"
    )
    assert [name for name in loaded if not name.startswith(("data:", "blob:"))] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    assert browser.execute_script("return window.attacked") is None


@pytest.mark.slow
def test_in_a_browser_the_trials_are_sorted_and_filtered(browser, rows):
    from selenium.webdriver.support.ui import Select

    found = [row["metrics"]["test_nll"] for row in rows if row["metrics"]]
    empty = len(rows) - len(found)
    heading(browser, "test_nll").find_element("css selector", ".dt-column-title").click()
    smallest = sorted(found)[: 10 - empty]
    wait(lambda: numbers(browser, "test_nll")[empty:] == pytest.approx(smallest, abs=1e-5))
    assert numbers(browser, "test_nll")[:empty] == [None] * empty
    heading(browser, "test_nll").find_element("css selector", ".dt-column-title").click()
    largest = sorted(found, reverse=True)[:10]
    wait(lambda: numbers(browser, "test_nll") == pytest.approx(largest, abs=1e-5))

    search = browser.find_element("css selector", "#trials_wrapper .dt-search input")
    search.send_keys("lstm_jzs")
    wait(lambda: set(column(browser, "model.cell")) == {"lstm_jzs"})
    search.clear()
    search.send_keys("x\b")
    wait(lambda: len(set(column(browser, "model.cell"))) > 1)

    heading(browser, "status").find_element("css selector", ".dtcc-button").click()
    wanted = wait(lambda: browser.find_elements("css selector", ".dtcc-dropdown input"))[0]
    wanted.send_keys("FAILED")
    wait(lambda: column(browser, "status") == ["FAILED"] * 2)
    assert NASTY in column(browser, "task")
    wanted.clear()
    wanted.send_keys("DONE")
    wait(lambda: column(browser, "status") == ["DONE"] * 10)

    heading(browser, "test_nll").find_element("css selector", ".dtcc-button").click()
    dropdown = wait(lambda: browser.find_elements("css selector", ".dtcc-dropdown select"))[0]
    Select(dropdown).select_by_value("less")
    browser.find_element("css selector", ".dtcc-dropdown input").send_keys("1.5")
    below = sorted((value for value in found if value < 1.5), reverse=True)
    assert 0 < len(below) < 10
    wait(lambda: numbers(browser, "test_nll") == pytest.approx(below, abs=1e-5))


@pytest.mark.slow
def test_in_a_browser_the_comparison_is_sorted_in_its_sections_and_filtered(browser, rows):
    table = comparison(rows)
    parts = {heading: part for heading, part in sections(table)}
    best = next(column for column in table.columns if column.key == "best")

    def by_best(descending: bool) -> list[str]:
        shown = []
        for title, part in parts.items():
            texts = [cell_text(row, best) for row in part]
            empty = [text for text in texts if not text]
            full = sorted(filter(None, texts), key=float, reverse=descending)
            shown += [title, *(full + empty if descending else empty + full)]
        return shown

    assert len(parts) > 1
    title = heading(browser, "best", "comparison").find_element("css selector", ".dt-column-title")
    title.click()
    wait(lambda: column(browser, "best", "comparison") == by_best(descending=False))
    title.click()
    wait(lambda: column(browser, "best", "comparison") == by_best(descending=True))

    search = browser.find_element("css selector", "#comparison_wrapper .dt-search input")
    search.send_keys("mut1")
    with_mut1 = [title for title, part in parts.items() if any(r["cell"] == "mut1" for r in part)]
    expected = [text for title in with_mut1 for text in (title, "mut1")]
    wait(lambda: column(browser, "cell", "comparison") == expected)
    search.clear()
    search.send_keys("x\b")
    wait(lambda: len(column(browser, "cell", "comparison")) > len(expected))

    glasses = browser.find_elements("css selector", "#comparison_wrapper .dtcc-button")
    glasses[1].click()  # of the cells
    wanted = wait(lambda: browser.find_elements("css selector", ".dtcc-dropdown input"))[0]
    wanted.send_keys("mut1")
    wait(lambda: column(browser, "cell", "comparison") == expected)
    wanted.clear()
    wanted.send_keys("x\b")
    search.click()


@pytest.mark.slow
def test_in_a_browser_the_curves_are_there_and_tell_their_values(browser):
    from selenium.webdriver import ActionChains

    figure = browser.find_element("id", "chart-curves")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    paths = figure.find_elements("css selector", ".scatterlayer .trace path.js-line")
    drawn = [re.findall(r"[ML]([\d.]+),([\d.]+)", path.get_attribute("d")) for path in paths]
    drawn = [points for points in drawn if len(points) == 5]
    assert len(drawn) == len(CELLS)
    names = [each.text for each in figure.find_elements("css selector", ".legendtext")]
    assert set(CELLS) <= set(names)
    area = figure.find_elements("css selector", ".draglayer .nsewdrag")[-1]
    x, y = map(float, drawn[0][2])
    centre = area.rect["width"] / 2, area.rect["height"] / 2
    to_point = ActionChains(browser).move_to_element_with_offset(area, x - centre[0], y - centre[1])
    to_point.perform()
    told = wait(lambda: figure.find_elements("css selector", ".hoverlayer .hovertext"))
    text = " ".join(each.text for each in told)
    assert re.search(r"(gru|lstm_jzs|mut1): \d\.\d+ ± 0\.\d+", text)
    assert "step 300, 3 seeds" in text
    legends = browser.find_elements("css selector", "[id^=chart-] .legendtext")
    assert any(NASTY in each.get_attribute("textContent") for each in legends)


@pytest.mark.slow
def test_in_a_browser_it_is_light_or_dark_as_the_system_or_the_switch_says(browser):
    def brightness(selector: str, what: str) -> float:
        colour = browser.execute_script(
            "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]",
            *(selector, what),
        )
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3

    texts = {"body": "color", "#chart-curves text": "fill", "#trials td": "color"}
    for system in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": system}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        for switch in ("system", "light", "dark"):
            button = browser.find_element("id", switch)
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
            button.click()
            dark = (system if switch == "system" else switch) == "dark"
            assert (brightness("body", "backgroundColor") < 60) == dark
            assert (brightness(".dt-container", "backgroundColor") < 60) == dark
            for selector, what in texts.items():
                assert (brightness(selector, what) > 180) == dark


@pytest.mark.slow
def test_in_a_browser_a_failure_unfolds(browser):
    for each in browser.find_elements("css selector", "details"):
        trace = each.find_element("tag name", "pre")
        assert not trace.is_displayed()
        summary = each.find_element("tag name", "summary")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", summary)
        summary.click()
        assert trace.is_displayed()
