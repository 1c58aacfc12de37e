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
    """The text tables: of each split success and differences; then cost, regret, other measures, what is missing."""
    for split in study.splits:
        yield f"success on {split}"
        yield from _aligned([*_scores(study, summary, split)])
        yield ""
        yield from _differences(study, summary, split)
    yield "cost, mean of the seeds"
    yield from _aligned([["regime", "rule", "generated", "trained", "FLOPs", "seconds", "budget"], *(
        [row["regime"], row["rule"], *(f"{row[name]:,.0f}" for name in ("generated", "trained")),
         "-" if row["flops"] is None else f"{row['flops']:.2e}", f"{row['seconds']:,.0f}",
         "UNEQUAL" if row["unequal"] else "equal"] for row in summary["costs"])])  # fmt: skip
    if summary["regret"]:
        yield ""
        yield "crossed regret"
        yield from _aligned([["rule", "mean", "95 %", "worst", "95 %", "in"], *(
            [row["rule"], _signed(row["mean"]["value"]), _bounds(row["mean"], _signed), _signed(row["worst"]["value"]),
             _bounds(row["worst"], _signed), row["worst_regime"]]
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


def _scores(study: Study, summary: Mapping[str, Any], split: str) -> Iterator[list[str]]:
    """A header and a row per regime and rule; with the crossed regret on the first split, where there is one."""
    regret = {(row["regime"], row["rule"]): row for row in summary["regret"].get("by_regime", ())}
    shown = bool(regret) and split == study.splits[0]
    yield ["regime", "rule", "success", "95 %", "seeds", *(["crossed regret"] if shown else [])]
    for row in _sorted(study, summary["scores"], split):
        found = regret.get((row["regime"], row["rule"]))
        yield [row["regime"], row["rule"], _number(row["value"]), _bounds(row), str(row["seeds"]),
               *(["" if found is None else _signed(found["value"])] if shown else [])]  # fmt: skip


def _differences(study: Study, summary: Mapping[str, Any], split: str) -> Iterator[str]:
    rows = [
        [row["regime"], row["rule"], _signed(row["value"]), _bounds(row, _signed), _number(row["holm_p"]),
         WORDS[row["judged"]]]
        for row in _sorted(study, summary["against"], split)
    ]  # fmt: skip
    if rows:
        yield from _aligned([["regime", "rule", f"vs {study.spec['baseline']}", "95 %", "Holm p", ""], *rows])
        yield ""


def _sorted(study: Study, rows: Sequence[Mapping[str, Any]], split: str) -> list[Mapping[str, Any]]:
    """The rows of a split, regime by regime, the highest value first."""
    places = list(study.regimes)
    own = [row for row in rows if row["split"] == split and row["regime"] in places]
    return sorted(own, key=lambda row: (places.index(row["regime"]), -(row["value"] or 0)))


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
