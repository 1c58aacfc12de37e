"""One table of rows: `table.json` for programs, text for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...disk import replace_text
from ...runs import write_json
from .load import Study
from .significance import TARGET_WORDS, WORDS

NAMES = {"steps": "steps", "generated": "generated tokens", "trained": "trained tokens", "flops": "FLOPs"}


def write_table(study: Study, summary: Mapping[str, Any]) -> str:
    """Write `table.json` and `table.txt` into the study; return the text."""
    write_json(study.path / "table.json", summary)
    text = "\n".join(lines(study, summary)) + "\n"
    replace_text(study.path / "table.txt", text)
    return text


def lines(study: Study, summary: Mapping[str, Any]) -> Iterator[str]:
    """The text table: a row per regime, rule and split; then regret, other measures, what is missing."""
    spent = {(row["regime"], row["rule"]): row for row in summary["costs"]}
    gaps = {(row["split"], row["regime"], row["rule"]): row for row in summary["against"]}
    regret = {(row["regime"], row["rule"]): row for row in summary["regret"].get("by_regime", ())}
    head = ["regime", "rule", "split", "success", "95 %", "seeds", f"vs {study.spec['baseline']}", "95 %", "Holm p", "",
            "crossed regret", "generated", "trained", "FLOPs", "seconds", "budget"]  # fmt: skip
    rows = []
    for row in summary["scores"]:
        where = row["regime"], row["rule"]
        gap, cost = gaps.get((row["split"], *where)), spent[where]
        first = row["split"] == study.splits[0]
        rows.append(
            [
                *where, row["split"], _number(row["value"]), _bounds(row), str(row["seeds"]),
                *(["", "", "", ""] if gap is None else [_signed(gap["value"]), _bounds(gap, _signed),
                  _number(gap["holm_p"]), WORDS[gap["judged"]]]),
                _signed(regret[where]["value"]) if first and where in regret else "",
                *(f"{cost[name]:,.0f}" for name in ("generated", "trained")),
                "-" if cost["flops"] is None else f"{cost['flops']:.2e}", f"{cost['seconds']:,.0f}", budget_words(cost),
            ]
        )  # fmt: skip
    yield from _aligned([head, *rows])
    if summary["regret"]:
        yield ""
        yield from _aligned([["rule", "mean regret", "95 %", "worst regret", "95 %", "in", "seeds"], *(
            [row["rule"], _signed(row["mean"]["value"]), _bounds(row["mean"], _signed), _signed(row["worst"]["value"]),
             _bounds(row["worst"], _signed), row["worst_regime"], str(row["seeds"])]
            for row in summary["regret"]["rules"])])  # fmt: skip
    for row in summary["target"]:
        yield f"target: {row['kind']} regret at most {_signed(row['target'])}: {TARGET_WORDS[row['judged']]}"
    if summary["measured"]:
        yield ""
        yield from _aligned([["regime", "rule", "split", "measured", "before", "after", "seeds"], *(
            [row["regime"], row["rule"], row["split"], row["name"], _number(row["base"]), _number(row["value"]),
             str(row["seeds"])] for row in summary["measured"])])  # fmt: skip
    for row in summary["chosen"]:
        yield f"{row['regime']}: {row['rule']} is {row['picked']}, picked on validation"
    for row in summary["stopped"]:
        yield f"{row['regime']}: {row['rule']} stopped early, clearly beaten by {row['leader']} on validation"
    if summary["unfinished"]:
        yield f"unfinished, not in the table: {len(summary['unfinished'])}: {', '.join(summary['unfinished'][:6])}" + (
            ", ..." if len(summary["unfinished"]) > 6 else ""
        )


def budget_words(cost: Mapping[str, Any]) -> str:
    """`equal`, or what differs from the middle rule of the regime and by how much."""
    found = [f"{NAMES[name]} {100 * share:+.0f} %" for name, share in cost["unequal"].items()]
    return f"UNEQUAL: {', '.join(found)}" if found else "equal"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _bounds(row: Mapping[str, Any], show: Any = _number) -> str:
    return "-" if row["low"] is None else f"[{show(row['low'])}, {show(row['high'])}]"
