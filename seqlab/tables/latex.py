"""A table for a paper."""

import re
from typing import Any

from seqlab.tables.table import (
    Column,
    Table,
    cell_text,
    is_number,
    is_numeric,
    sections,
    shown_columns,
)


def to_latex(table: Table) -> str:
    """Needs `\\usepackage{booktabs}`."""
    columns = shown_columns(table)
    right = [is_numeric(table, column) for column in columns]
    headings = " & ".join(_latex_escape(column.title) for column in columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_escape(table.title)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if r else 'l' for r in right)}}}",
        r"\toprule",
        rf"{headings} \\",
    ]
    for heading, rows in sections(table):
        lines.append(r"\midrule")
        if heading:
            lines.append(
                rf"\multicolumn{{{len(columns)}}}{{l}}{{\textit{{{_latex_escape(heading)}}}}} \\"
            )
        for row in rows:
            lines.append(" & ".join(_latex_cell(row, column) for column in columns) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.notes:
        notes = "\n".join(rf"{_latex_escape(note)}\par" for note in table.notes)
        lines += [r"\par\smallskip", rf"{{\footnotesize {notes}}}"]
    return "\n".join([*lines, r"\end{table}"])


LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        "[": "{[}",  # \\ and \midrule take [ and * after them for an argument
        "*": "{*}",
        "\n": " ",
        "±": r"$\pm$",
        "−": "$-$",
        "×": r"$\times$",
        "·": r"$\cdot$",
        "⊙": r"$\odot$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "≈": r"$\approx$",
        "→": r"$\rightarrow$",
        "√": r"$\surd$",
        "∞": r"$\infty$",
        "∂": r"$\partial$",
        "‖": r"$\|$",
        "ρ": r"$\rho$",
        "α": r"$\alpha$",
        "β": r"$\beta$",
        "γ": r"$\gamma$",
        "ε": r"$\varepsilon$",
        "θ": r"$\theta$",
        "λ": r"$\lambda$",
        "μ": r"$\mu$",
        "σ": r"$\sigma$",
        "²": r"$^2$",
        "³": r"$^3$",
    }
)


def _latex_escape(text: str) -> str:
    # two hyphens would be set as one dash: --set
    return re.sub("-(?=-)", "-{}", text.translate(LATEX))


def _latex_cell(row: dict[str, Any], column: Column) -> str:
    text = _latex_escape(cell_text(row, column))
    # a hyphen is no minus sign
    return f"$-${text[1:]}" if is_number(row.get(column.key)) and text.startswith("-") else text
