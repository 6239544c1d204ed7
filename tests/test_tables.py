"""What is written can be read back, by readers that know nothing of the writers."""

import csv
import io
import json
import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from seqlab import cli, tables
from seqlab.errors import InputError
from seqlab.tables import FORMATS, Column, Table, render
from seqlab.tables.terminal import fitted

LATEX = {  # how LaTeX must be asked for each character that means something to it, or is no letter
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "σ": r"$\sigma$",
}
SPECIAL = "".join(LATEX) + "*`[]()!\"',;:+-=.?@/éπ日"
NASTY = [
    *(character for character in SPECIAL),
    *(f"a{character}b" for character in SPECIAL),
    *(a + b for a in "\\|*`$_" for b in "\\|*`$_"),
    SPECIAL,
    "\\|\\\\||",
    "[bold]x[/bold] :smile:",
    "<b>&amp;</b> ![i](u) [l](u)",
    "**a** _b_ ~~c~~ `d` $e$",
    "two\nlines",
    *("- item", "1. item", "2) item", "===", "---", "-0.5", "0.5", "    indented"),
    "--set, ---",
    "{}{{}}\\}",
    "≤ ≥ → ⊙ √ 0.5 ± 0.1",
]
PLAIN = "letters 123"


def one_cell(text: str, where: str) -> Table:
    """A table with `text` in the title, a heading, a cell, a section or a note."""
    place = {name: PLAIN for name in ("title", "heading", "cell", "section", "note")} | {
        where: text
    }
    return Table(
        place["title"],
        (Column("group", "Group"), Column("name", place["heading"]), Column("n", "n", ".2f")),
        ({"group": place["section"], "name": place["cell"], "n": 1},),
        section="group",
        notes=(place["note"],),
    )


GRID = Table(
    "Scores",
    (
        Column("task", "Task"),
        Column("cell", "Cell"),
        Column("loss", "Loss", ".3f"),
        Column("params", "Parameters", ",d"),
        Column("score", "Score ± 95 %"),
    ),
    (
        {"task": "A", "cell": "LSTM", "loss": 0.1 + 0.2, "params": 1234567, "score": "1 ± 2"},
        {"task": "A", "cell": "GRU", "loss": -1e-17, "params": None},
        {"task": "B", "cell": "MUT1", "loss": math.nan, "params": math.inf, "score": None},
        {"task": "B"},
        {"task": "A", "cell": "Elman", "loss": 12, "params": 0.5},
    ),
    section="task",
    notes=("First note.", "Second note."),
)
EMPTY = Table("Nothing yet", GRID.columns, (), section="task")
# as a person should see GRID: headings, section headings, cells
SEEN = [
    ["Cell", "Loss", "Parameters", "Score ± 95 %"],
    ["A"],
    ["LSTM", "0.300", "1,234,567", "1 ± 2"],
    ["GRU", "-0.000", "", ""],
    ["B"],
    ["MUT1", "nan", "inf", ""],
    ["", "", "", ""],
    ["A"],
    ["Elman", "12.000", "0.5", ""],
]


# Markdown, read by a CommonMark parser


def read_markdown(text: str) -> tuple[list[str], list[list[str]], list[str]]:
    """Return (paragraphs, rows of cells, alignments) as a page would show them."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    paragraphs, rows, sides = [], [], []
    inside = False
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "table_open":
            inside = True
        elif token.type == "table_close":
            inside = False
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "th_open":
            sides.append(str(token.attrs.get("style", "")).removeprefix("text-align:"))
        elif token.type == "inline":
            shown = ""
            for child in token.children or []:
                allowed = {"text", "text_special", "strong_open", "strong_close", "html_inline"}
                assert child.type in allowed, child
                assert child.type != "html_inline" or child.content == "<br>"
                shown += "\n" if child.type == "html_inline" else child.content
            if inside:
                rows[-1].append(shown)
            else:
                assert before is not None
                assert before.type == "paragraph_open"
                paragraphs.append(shown)
    return paragraphs, rows, sides


@pytest.mark.parametrize("where", ["title", "heading", "cell", "section", "note"])
def test_markdown_shows_every_character(where):
    for text in NASTY:
        paragraphs, rows, _ = read_markdown(render(one_cell(text, where), "markdown"))
        seen = {
            "title": paragraphs[0],
            "note": paragraphs[1],
            "heading": rows[0][0],
            "section": rows[1][0],
            "cell": rows[2][0],
        }
        expected = dict.fromkeys(seen, PLAIN) | {where: text.strip()}
        assert seen == expected
        assert [row[1] for row in rows] == ["n", "", "1.00"]


def test_markdown_grid():
    paragraphs, rows, sides = read_markdown(render(GRID, "markdown"))
    assert paragraphs == ["Scores", "First note.", "Second note."]
    assert rows == [row + [""] * (4 - len(row)) for row in SEEN]
    assert sides == ["", "right", "right", ""]
    assert len({len(line) for line in render(GRID, "markdown").splitlines() if "|" in line}) == 1


# LaTeX, read by undoing LATEX


def read_latex(text: str) -> str:
    """Undo the escapes, and refuse what LaTeX would not print as a character."""
    shown, rest = "", text
    sequences = {value: key for key, value in LATEX.items()} | {
        "-{}": "-",
        "{[}": "[",
        "{*}": "*",
        r"\textasciigrave{}": "`",
        r"$\leq$": "≤",
        r"$\geq$": "≥",
        r"$\rightarrow$": "→",
        r"$\odot$": "⊙",
        r"$\surd$": "√",
    }
    while rest:
        for sequence, character in sequences.items():
            if rest.startswith(sequence):
                shown, rest = shown + character, rest.removeprefix(sequence)
                break
        else:
            assert rest[0] not in LATEX, f"{rest[0]} is not escaped in {text}"
            shown, rest = shown + rest[0], rest[1:]
    return shown


def latex_rows(text: str) -> list[list[str]]:
    body = text.split(r"\toprule" + "\n")[1].split("\n" + r"\bottomrule")[0]
    rows = []
    for line in body.split("\n"):
        if line == r"\midrule":
            continue
        assert line.endswith(r" \\")
        assert line[0] not in "[*", "an argument to the line before"
        line = line.removesuffix(r" \\")
        if span := re.fullmatch(r"\\multicolumn\{\d+\}\{l\}\{\\textit\{(.*)\}\}", line):
            rows.append([span[1]])
        else:
            rows.append(re.split(r" (?<!\\)& ", line))
    return rows


def assert_latex_balanced(text: str) -> None:
    bare = re.sub(r"\\\\|\\[{}$&%#_]", "", text)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    begun, ended = (re.findall(rf"\\{word}\{{(\w+)\}}", text) for word in ("begin", "end"))
    assert begun == ended[::-1]


@pytest.mark.parametrize(("character", "escaped"), LATEX.items())
def test_latex_escapes(character, escaped):
    assert latex_rows(render(one_cell(f"a{character}b", "cell"), "latex"))[2][0] == f"a{escaped}b"


@pytest.mark.parametrize("where", ["title", "heading", "cell", "section", "note"])
def test_latex_shows_every_character(where):
    for text in NASTY:
        latex = render(one_cell(text, where), "latex")
        assert_latex_balanced(latex)
        rows = latex_rows(latex)
        assert [len(row) for row in rows] == [2, 1, 2]
        seen = {
            "title": re.findall(r"\\caption\{(.*)\}\n", latex)[0],
            "note": re.findall(r"\\footnotesize (.*)\\par\}\n", latex)[0],
            "heading": rows[0][0],
            "section": rows[1][0],
            "cell": rows[2][0],
        }
        expected = dict.fromkeys(seen, PLAIN) | {where: text.replace("\n", " ")}
        assert {name: read_latex(part) for name, part in seen.items()} == expected
        assert "--" not in seen[where]


def test_latex_grid():
    latex = render(GRID, "latex")
    assert_latex_balanced(latex)
    rows = [[cell.strip() for cell in row] for row in latex_rows(latex)]
    assert [len(row) for row in rows] == [len(row) for row in SEEN]
    shown = [[read_latex(cell).replace("−", "-") for cell in row] for row in rows]
    assert shown == SEEN
    assert rows[3][1] == "$-$0.000"  # a sign, not a hyphen
    assert latex.count(r"\midrule") == 3
    assert r"\begin{tabular}{lrrl}" in latex
    notes = latex.index("First note."), latex.index("Second note.")
    assert latex.index(r"\end{tabular}") < notes[0] < notes[1] < latex.index(r"\end{table}")


# HTML, read by the standard library's parser


# What may stand in a tag: nothing that runs or is fetched.
ATTRIBUTES = {"aria-labelledby", "class", "colspan", "headers", "id", "rowspan", "scope", "style"}
ATTRIBUTES |= {"data-quarto-bootstrap", "data-quarto-disable-processing"}


class Page(HTMLParser):
    """What a browser would show, and what it would do besides: nothing, if all is well."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.title: list[str] = []
        self.notes: list[str] = []
        self.rows: list[list[str]] = []
        self.right: list[list[bool]] = []
        self.tags: list[str] = []
        self.identifiers: list[str] = []
        self.told: list[str] | None = None  # whose last text is being read
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert {name for name, _ in attrs} <= ATTRIBUTES
        values = dict(attrs)
        classes = (values.get("class") or "").split()
        self.tags.append(tag)
        if identifier := values.get("id"):
            self.identifiers.append(identifier)
        if tag == "br":
            self.handle_data("\n")
            return
        self.open.append(tag)
        if tag == "tr" and not {"gt_heading", "gt_sourcenotes"} & set(classes):
            self.rows.append([])
            self.right.append([])
        if tag in ("td", "th"):
            self.told = self.rows[-1] if self.rows else None
            if "gt_title" in classes:
                self.told = self.title
            elif "gt_sourcenote" in classes:
                self.told = self.notes
            else:
                self.right[-1].append("gt_right" in classes)
            assert self.told is not None
            self.told.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.told = None

    def handle_data(self, data):
        if self.told is None:
            assert self.open[-1:] == ["style"] or data.isspace(), data
        else:
            self.told[-1] += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    handle_decl = handle_pi = unknown_decl = handle_comment


HOSTILE = [
    "<script>alert(1)</script>",
    "</td></tr></table></div><img src=x onerror=alert(1)>",
    "</style><!-- ",
    "]]> --> <!doctype html> <?php ?>",
    "\" onload='x' & &lt; &#60; &amp;amp; &notit;",
    "{{m^2}} {{*x*}}",
]


@pytest.mark.parametrize("where", ["title", "heading", "cell", "section", "note"])
def test_html_shows_every_character(where):
    plain = Page(render(one_cell(PLAIN, where), "html"))
    for text in NASTY + HOSTILE:
        page = Page(render(one_cell(text, where), "html"))
        seen = {
            "title": page.title,
            "note": page.notes,
            "heading": page.rows[0][:1],
            "section": page.rows[1],
            "cell": page.rows[2][:1],
        }
        expected = {name: [PLAIN] for name in seen} | {where: [text]}
        assert seen == expected
        assert [row[1:] for row in page.rows] == [["n"], [], ["1.00"]]
        assert [tag for tag in page.tags if tag != "br"] == plain.tags


def test_html_grid():
    html = render(GRID, "html")
    page = Page(html)
    assert page.rows == SEEN
    assert page.title == ["Scores"]
    assert page.notes == ["First note.", "Second note."]
    numbers = [False, True, True, False]
    assert page.right == [numbers if len(row) == 4 else [False] for row in SEEN]
    assert page.tags[:3] == ["div", "style", "table"]
    assert "script" not in page.tags
    assert "url(" not in html  # nothing is fetched
    assert "@import" not in html
    assert html.isascii()  # whatever encoding the page is in
    assert html.count('<th class="gt_group_heading" colspan="4"') == 3


def test_html_is_the_same_each_time_and_has_identifiers_of_its_own():
    html, other = render(GRID, "html"), render(EMPTY, "html")
    assert html == render(GRID, "html")
    identifiers = Page(html).identifiers + Page(other).identifiers
    assert len(set(identifiers)) == len(identifiers)


def test_html_without_its_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "great_tables", None)
    with pytest.raises(InputError, match=r"^html needs great_tables: pip install .*html") as error:
        render(GRID, "html")
    assert "\n" not in str(error.value)


# csv and json, read by the standard library


def test_csv_grid_keeps_every_bit():
    text = render(GRID, "csv")
    header, *rows = csv.reader(io.StringIO(text))
    assert header == [column.key for column in GRID.columns]
    assert len(rows) == len(GRID.rows)
    for written, row in zip(rows, GRID.rows, strict=True):
        for key, cell in zip(header, written, strict=True):
            value = row.get(key)
            if value is None:
                assert cell == ""
            elif isinstance(value, float):
                np.testing.assert_array_equal(float(cell), value)
            else:
                assert cell == str(value)


def test_csv_shows_every_character():
    for text in NASTY:
        rows = list(csv.reader(io.StringIO(render(one_cell(text, "cell"), "csv"), newline="")))
        assert rows[1] == [PLAIN, text, "1"]


def no_constant(name: str):
    raise AssertionError(f"{name} is not JSON")


def test_json_grid_keeps_every_bit():
    read = json.loads(render(GRID, "json"), parse_constant=no_constant)
    assert list(read) == ["title", "columns", "rows", "notes"]
    assert read["title"] == "Scores"
    assert read["columns"] == [column.key for column in GRID.columns]
    assert read["notes"] == list(GRID.notes)
    for written, row in zip(read["rows"], GRID.rows, strict=True):
        assert list(written) == read["columns"]
        for key, cell in written.items():
            value = row.get(key)
            lost = isinstance(value, float) and not math.isfinite(value)
            assert cell == (None if lost else value)


def test_json_shows_every_character():
    for where, path in (("title", ("title",)), ("note", ("notes", 0)), ("cell", ("rows", 0))):
        for text in NASTY:
            read = json.loads(render(one_cell(text, where), "json"))
            for step in path:
                read = read[step]
            assert (read["name"] if where == "cell" else read) == text


def test_values_from_numpy_and_nested_values():
    columns = (Column("v", "Value", ".2f"),)
    values = [np.float32(0.1), np.int64(3), np.float64("nan"), True, [1, math.nan], {"a": None}]
    table = Table("t", columns, tuple({"v": value} for value in values))
    read = [row["v"] for row in json.loads(render(table, "json"))["rows"]]
    assert read == [float(np.float32(0.1)), 3, None, True, [1, None], {"a": None}]
    cells = [row[0] for row in csv.reader(io.StringIO(render(table, "csv")))]
    assert np.float32(cells[1]) == np.float32(0.1)
    assert cells[2:5] == ["3", "nan", "true"]
    lines = [line.strip() for line in render(table, "text").splitlines()[4:10]]
    assert lines == ["0.10", "3.00", "nan", "True", "[1, nan]", "{'a': None}"]


# Text


def test_text_grid():
    lines = render(GRID, "text").splitlines()
    assert lines[0] == "Scores"
    assert lines[-2:] == list(GRID.notes)
    body = [line for line in lines[1:-2] if "─" not in line]
    assert [re.split(r" {2,}", line.strip()) for line in body] == [
        [cell for cell in row if cell] or [""] for row in SEEN
    ]
    # numbers end where their heading ends, words start where it starts
    for heading in ("Loss", "Parameters"):
        end = body[0].index(heading) + len(heading)
        assert all(line[end : end + 1] in ("", " ") for line in body)
        assert {line[end - 1] for line in (body[2], body[8])} <= set("0123456789")
    assert body[2].index("LSTM") == body[0].index("Cell") == body[8].index("Elman")
    # a rule above the headings, above each of the three sections, and at the end
    assert sum("─" in line for line in lines) == 5


def test_text_for_a_pipe_is_neither_cut_nor_folded():
    long = " ".join(f"word{i}" for i in range(200))
    for where in ("title", "heading", "cell", "section", "note"):
        assert any(long in line for line in render(one_cell(long, where), "text").split("\n"))


def test_text_shows_every_character():
    for text in NASTY:
        for where in ("title", "heading", "cell", "section", "note"):
            shown = render(one_cell(text, where), "text")
            assert all(part in shown for part in text.split("\n"))


def test_text_is_aligned_where_characters_are_wide_and_where_cells_have_lines():
    columns = (Column("a", "a"), Column("n", "n", "d"))
    rows = ({"a": "日本", "n": 1}, {"a": "two\nlines", "n": 22}, {"a": "x"})
    lines = render(Table("t", columns, rows), "text").splitlines()
    assert lines[4:8] == ["  日本     1", "  two     22", "  lines", "  x"]
    assert lines[1] == lines[3] == lines[8] == " " + "─" * 12


def test_a_long_heading_makes_no_column_wider():
    rows = ({"group": "g" * 80, "a": 1}, {"group": "h", "a": 2})
    table = Table("t", (Column("group", "group"), Column("a", "a")), rows, section="group")
    rules = [line for line in render(table, "text").splitlines() if "─" in line]
    assert set(rules) == {" ───"}


def test_a_terminal_gets_colour_and_a_pipe_does_not():
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    with console.capture() as capture:
        for part in fitted(GRID, 80):
            console.print(part)
    assert "\x1b[" in capture.get()
    assert "\x1b" not in render(GRID, "text")


# All formats


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_table_has_its_headings(format):
    shown = render(EMPTY, format)
    names = [c.key if format in ("csv", "json") else c.title for c in EMPTY.columns[1:]]
    if format == "html":
        assert Page(shown).rows == [names]
        return
    for name in names:
        assert name.replace("±", r"$\pm$").replace("%", r"\%") in shown or name in shown
    if format == "json":
        assert json.loads(shown)["rows"] == []
    if format == "csv":
        assert shown.count("\n") == 0
    if format == "latex":
        assert_latex_balanced(shown)
    if format == "markdown":
        assert len(read_markdown(shown)[1]) == 1


@pytest.mark.parametrize("format", FORMATS)
def test_no_format_ends_in_a_newline(format):
    for table in (GRID, EMPTY):
        assert render(table, format) == render(table, format).rstrip("\n")


def test_a_table_without_sections_shows_all_columns():
    flat = Table(GRID.title, GRID.columns, GRID.rows, notes=GRID.notes)
    _, rows, _ = read_markdown(render(flat, "markdown"))
    grouped = [row for row in SEEN if len(row) == 4]
    assert rows == [[task, *row] for task, row in zip(["Task", *"AABBA"], grouped, strict=True)]
    assert latex_rows(render(flat, "latex"))[0][0] == "Task"
    assert sum("─" in line for line in render(flat, "text").splitlines()) == 3


def test_rows_before_the_first_section_stand_under_no_heading():
    table = Table("t", GRID.columns, ({"cell": "x"}, {"task": "A", "cell": "y"}), section="task")
    _, rows, _ = read_markdown(render(table, "markdown"))
    assert [row[0] for row in rows] == ["Cell", "x", "A", "y"]


def test_the_command_line_has_every_format():
    assert tuple(FORMATS) == cli.FORMATS


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(InputError, match=r"'markdwon'.*Did you mean 'markdown'") as error:
        render(GRID, "markdwon")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "rows", "section"),
    [
        ("aa", [], None),
        ("a", [{"b": 1}], None),
        ("ab", [], "c"),
        ("", [], None),
        ("a", [], "a"),
    ],
)
def test_a_table_that_cannot_be_shown_whole_is_refused(columns, rows, section):
    with pytest.raises(ValueError, match="table 't'"):
        Table("t", tuple(Column(key, key) for key in columns), tuple(rows), section)


def test_columns_can_be_chosen_and_keep_their_sections():
    table = Table(
        "t",
        (Column("task", "task"), Column("a", "A"), Column("b", "B")),
        ({"task": "x", "a": 1, "b": 2}, {"task": "y", "b": 3}),
        section="task",
    )
    chosen = json.loads(render(tables.select(table, ["b"]), "json"))
    assert chosen["columns"] == ["task", "b"]
    assert chosen["rows"] == [{"task": "x", "b": 2}, {"task": "y", "b": 3}]
    with pytest.raises(InputError, match=r"no column 'c'\. Valid: a, b, task|Did you mean"):
        tables.select(table, ["c"])


def test_a_cell_of_several_lines_is_as_wide_as_the_longest():
    columns = (Column("who", "who"), Column("matrix", "matrix"), Column("last", "last"))
    rows = ({"who": "w", "matrix": "[1, 2]\n[3, 4]\n[5, 6]", "last": "here"},)
    console = Console(file=io.StringIO(), width=25, color_system=None)
    with console.capture() as capture:
        for part in fitted(Table("t", columns, rows), 25):
            console.print(part)
    shown = [line.split() for line in capture.get().splitlines()]
    assert ["w", "[1,", "2]", "here"] in shown
    assert ["[3,", "4]"] in shown
    assert ["[5,", "6]"] in shown


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_shows_whole_numbers_and_names_what_it_hides(width):
    keys = [f"k{number}" for number in range(12)]
    row = {key: 1234567.0 + number for number, key in enumerate(keys)}
    columns = (Column("who", "who"), Column("none", "none"), *(Column(k, k, ".0f") for k in keys))
    rows = ({"who": "somebody with a name that is long", **row, "s": "heading"},)
    table = Table("t", (*columns, Column("s", "s")), rows, section="s")
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        for part in fitted(table, width):
            console.print(part)
    shown = capture.get()
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    assert "none" not in shown
    last = [key for key in keys if f"{row[key]:.0f}" in shown]
    assert last == keys[: len(last)]
    assert last
    said = " ".join(shown.split())
    for key in keys[len(last) :]:
        assert re.search(rf"Hidden for width: .*\b{key}\b", said)
    assert (width < 200) == ("Hidden" in shown)
