import json
import re

import pytest
from study_dirs import LEVELS, write_all

from amft.cli import main
from amft.report.study.figures import figures
from amft.report.study.load import load_study
from amft.report.study.page import write_study_report
from amft.report.study.significance import WORDS, judged_words
from amft.report.study.summary import summarize


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("study") / "s")


@pytest.fixture(scope="module")
def page(folder):
    return write_study_report(folder).read_text(encoding="utf-8")


def test_the_page_is_self_contained_and_rebuilt_to_the_byte(folder, page, capsys):
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    for name in ("table.json", "table.txt", "report.html"):
        (folder / name).unlink()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").read_text(encoding="utf-8") == page
    assert (folder / "table.json").exists()


def test_every_part_is_there_with_its_data(page):
    for title in (
        "The claims",
        "Regret",
        "How many seeds",
        "Success on id",
        "Success on rule_ood",
        "How soon",
        "What it cost",
    ):
        assert f"<h2>{title}" in page
    assert page.count("<svg") == page.count("<summary>Data</summary>") == 3 + 2 * 2
    for title in (
        "Performance profiles",
        "In and out of distribution",
        "many: learning curves",
        "noisy: path of μ over the grid",
    ):
        assert f"<h3>{title}" in page
    data = re.findall(r"<pre>(.*?)</pre>", page, re.S)
    assert all(text.count("\n") > 3 for text in data)
    assert data[0].startswith("rule,mean,mean_low")


def test_levels_and_costs_are_folded_by_regime_and_unequal_budgets_show_outside(page):
    for title in ("How soon", "What it cost"):
        section = page[page.index(f"<h2>{title}") :].split("</section>")[0]
        folds = section.split("<details")[1:]
        assert [fold.startswith(" open>") for fold in folds] == [True, False]
        assert [re.search(r"<summary>(\w+)", fold).group(1) for fold in folds] == ["many", "noisy"]
        assert all(fold.count("<code>amft</code>") == 1 for fold in folds)
    # sft and fixed-1 explore nothing, so their tokens are far from the middle rule's
    assert all(re.search(r"<summary>.*?(\d) unequal", fold) for fold in folds)
    assert all(fold.count("UNEQUAL") == int(re.search(r"(\d) unequal", fold).group(1)) for fold in folds)


def test_numbers_on_the_page_are_those_of_the_summary(folder, page):
    summary = summarize(load_study(folder))
    row = next(r for r in summary["scores"] if (r["regime"], r["rule"], r["split"]) == ("many", "amft", "id"))
    assert f"{100 * row['value']:.1f} <span" in page.replace("\n", "")
    worst = next(r for r in summary["regret"]["rules"] if r["rule"] == "rl")["worst"]["value"]
    assert f"{100 * worst:+.1f} <span" in page


def plain(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def rules_of(section):
    return re.findall(r'<th scope="row"><code>([^<]+)</code>', section)


def test_it_opens_with_the_winner_and_the_loser_in_plain_words(folder, page):
    rows = [row for row in summarize(load_study(folder))["regret"]["rules"] if not row["rule"].startswith("fixed-")]
    (opening,) = re.findall(r'<p class="verdict">(.*?)</p>', page, re.S)
    best, worst = min(rows, key=lambda row: row["mean"]["value"]), max(rows, key=lambda row: row["mean"]["value"])
    told = f"{100 * worst['mean']['value']:.1f} points of success below it."
    assert opening.startswith(
        f"{best['rule']} came closest to the best constant weight of each regime: on average over 2"
    )
    assert f"{worst['rule']} was farthest: {told}" in opening
    assert page.index('class="verdict"') < page.index("<svg") < page.index("<h2>The claims")
    assert page.index('id="regret"') < page.index("<h2>The claims"), "the picture of the regret comes first"


def test_without_constants_it_opens_with_success(tmp_path):
    told = write_study_report(write_all(tmp_path / "s", grid=[], tuned={})).read_text(encoding="utf-8")
    assert "amft has the highest success on id, sft the lowest: 3" in plain(told)
    assert "At least one of the two differs clearly from sft" in plain(told)


def test_with_few_seeds_it_says_that_the_order_may_be_chance(tmp_path):
    told = write_study_report(write_all(tmp_path / "s", seeds=[0, 1])).read_text(encoding="utf-8")
    assert "2 seeds cannot tell what of this is chance: it takes at least 5" in plain(told)


def test_it_never_asks_for_fewer_seeds_than_a_verdict_takes(tmp_path):
    told = write_study_report(write_all(tmp_path / "s", seeds=[0, 1])).read_text(encoding="utf-8")
    rows = re.findall(r'data-label="\+[\d.]+">(over \d+|\d+)<', told)
    assert rows
    assert all(row.startswith("over") or int(row) >= 5 for row in rows)


def test_a_tie_has_no_winner(tmp_path):
    levels = dict.fromkeys(LEVELS, 1.0)
    folder = write_all(tmp_path / "s", levels, seeds=[0], rules={"amft": "amft", "sft": "sft"}, grid=[], tuned={})
    told = plain(write_study_report(folder).read_text(encoding="utf-8"))
    assert "Nobody wins: amft and sft have the same success on id, on average over 2 regimes." in told
    assert "highest" not in told


def test_every_table_stacks_on_a_narrow_page_with_its_headings_and_the_settings_speak_as_the_study_file(page):
    assert page.count("<table") == page.count('<table class="stacks"')
    assert not re.search(r"<td(?![^>]*data-label)", page)
    settings = page[page.index("<h2>Settings") :]
    assert "<dt>rules</dt><dd>amft:\n  balance:" in settings
    assert "<dt>arms" not in settings


def test_the_text_tables_fit_a_terminal_and_are_sorted(folder, page):
    text = (folder / "table.txt").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 80
    many = re.findall(r"^many +\S+ +(\S+) +\[", text.split("\n\n")[0], re.M)
    assert len(many) == len(LEVELS) / 2 + 1
    assert list(map(float, many)) == sorted(map(float, many), reverse=True)


def test_tables_are_sorted(page):
    parts = {title: page[page.index(f"<h2>{title}") :].split("</section>")[0] for title in ("Regret", "Success on id")}
    means = [float(mean.replace("−", "-")) for mean in re.findall(r'data-label="mean">([+−]?[\d.]+)', parts["Regret"])]
    assert means == sorted(means)
    assert len(means) == 7
    # by mean over the regimes: amft and fixed-tuned .55, fixed-0.5 .45, fixed-0 .4, rl .3, sft and fixed-1 .2
    listed = rules_of(parts["Success on id"])
    assert set(listed[:2]) == {"amft", "fixed-tuned"}
    assert listed[2:5] == ["fixed-0.5", "fixed-0", "rl"]
    for claim in page[page.index("<h2>The claims") :].split("</section>")[0].split("<details>")[1:]:
        ahead = [float(v.replace("−", "-")) for v in re.findall(r'data-label="ahead by">([+−]?[\d.]+)', claim)]
        assert ahead == sorted(ahead)


def test_a_claim_names_the_rival_that_decides_it(folder, page):
    for claim in summarize(load_study(folder))["claims"]:
        part = page[page.index(f"<summary>{claim['claim'].capitalize()}") :].split("</summary>")[0]
        named = plain(part).partition(f"{claim['verdict']} ")[2].partition(":")[0]
        rivals = {row["rival"]: row for row in claim["rivals"]}
        wanted = {"fails": ("down",), "undecided": ("few", "unclear", "down"), "holds": ("up",)}[claim["verdict"]]
        able = [name for name, row in rivals.items() if row["judged"] in wanted]
        assert named == min(able, key=lambda name: rivals[name]["value"])


def test_a_tag_that_says_less_than_its_interval_says_why():
    row = {"judged": "unclear", "low": 0.001, "high": 0.05, "holm_p": 0.176}
    assert judged_words(row, 13) == "not clear among 13 comparisons (p = 0.18)"
    assert judged_words(row | {"low": -0.001}, 13) == "no clear difference"
    assert judged_words(row | {"judged": "up", "holm_p": 0.01}, 13) == "better"
    assert judged_words(row | {"judged": "few", "low": None, "high": None, "holm_p": None}, 13) == WORDS["few"]


def test_no_legend_lies_on_a_line(folder):
    """Words of a legend (the small ones) stand above the axes, whose top is 0.48 inches below that of the figure."""
    study = load_study(folder)
    places = {
        figure.anchor: re.findall(r'<text style="[^"]*\b9px[^>]* y="([\d.]+)"[^>]*>(?:others|amft|sft)', figure.svg)
        for figure in figures(study, summarize(study))
    }
    assert {anchor for anchor, found in places.items() if found} == {
        "profiles",
        "ood",
        "learning-many",
        "learning-noisy",
    }
    assert all(float(y) < 0.48 * 72 for found in places.values() for y in found)


def test_claims_need_every_rival_and_point_the_right_way(folder):
    claims = {row["claim"]: row for row in summarize(load_study(folder))["claims"]}
    assert list(claims) == ["performance", "out of distribution", "sample efficiency", "stability"]
    rivals = {row["rival"]: row for row in claims["performance"]["rivals"]}
    assert set(rivals) == {"sft", "rl", "fixed-tuned"}
    # amft is at .6 and .5, sft at .3 and .1: 35 points ahead; fixed-tuned at .5 and .6 is level with it
    assert rivals["sft"]["value"] == pytest.approx(0.35, abs=0.06)
    assert rivals["sft"]["judged"] == "up"
    assert rivals["fixed-tuned"]["judged"] == "unclear"
    assert claims["performance"]["verdict"] == "undecided"


def test_of_the_grid_the_baseline_alone_is_a_rival(tmp_path):
    changes = {"tuned": {}, "rules": {"amft": "amft", "sft": "sft"}, "baseline": "fixed-0.5"}
    for claim in summarize(load_study(write_all(tmp_path, **changes)))["claims"]:
        assert [row["rival"] for row in claim["rivals"]] == ["sft", "fixed-0.5"]


def test_a_claim_fails_when_a_rival_is_ahead_and_holds_when_none_is_near(tmp_path):
    low = {**LEVELS, ("many", "amft"): 0.05, ("noisy", "amft"): 0.05}
    changes = {"tuned": {}, "rules": {"amft": "amft", "sft": "sft"}}
    failed = summarize(load_study(write_all(tmp_path / "low", low, **changes)))["claims"][0]
    assert (failed["verdict"], failed["rivals"][0]["judged"]) == ("fails", "down")
    assert summarize(load_study(write_all(tmp_path / "high", **changes)))["claims"][0]["verdict"] == "holds"


def test_a_target_is_judged_and_the_nearest_single_settings_are_named(tmp_path, page):
    # amft: many 0.5 - 0.6, noisy 0.6 - 0.5: mean regret about 0, worst about 0.1; rl has 0.2 in noisy and 0.3 in many
    folder = write_all(tmp_path / "s", target={"mean": 0.2, "worst": 0.05})
    told = write_study_report(folder).read_text(encoding="utf-8")
    text = re.sub(r"<[^>]*>", "", told[told.index("<h2>Target") :].split("</section>")[0])
    assert re.search(r"Mean regret of amft at most \+20\.0, found [^ ]+ \[.*\]: reached\.\n", text)
    assert re.search(
        r"Worst regret of amft at most \+5\.0, found \+\d+\.\d \[.*\]: the figure is above it, the interval leaves it "
        r"open\. Were the figure the truth, this many seeds would settle it: (\d+|over 200)",
        text,
    )
    assert text.index("fixed-0.5") < text.index("rl")
    assert "fixed-tuned" not in text
    assert "<h2>Target" not in page


def test_a_study_of_one_seed_says_why_there_is_no_regret(tmp_path):
    told = write_study_report(write_all(tmp_path / "s", seeds=[0], tuned={}, target={"mean": 0.1, "worst": 0.1}))
    text = re.sub(r"<[^>]*>", "", told.read_text(encoding="utf-8"))
    assert "Not known: a constant is chosen on other seeds" in text
    assert "Mean regret of amft at most +10.0, found not known: too few seeds to tell." in text


def test_with_four_seeds_the_page_does_not_say_better(tmp_path, page):
    few = write_study_report(write_all(tmp_path / "s", seeds=[0, 1, 2, 3])).read_text(encoding="utf-8")
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", few, flags=re.S)
    for word in ("better", "worse", "ahead by 0", "▲", "holds<"):
        assert word not in text.split("Intervals are 95 %")[0]
    assert "better" not in text
    assert "4 seeds cannot tell what of this is chance" in text
    assert "undecided" in text
    assert "better" in re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.S)


def test_a_single_validation_has_no_area_and_still_a_page(tmp_path):
    path = write_all(tmp_path / "s", regimes={"many": {}}, seeds=[0], tuned={})
    for file in path.glob("runs/*/*/*/metrics.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        kept = [{k: v for k, v in row.items() if k != "eval/val/success" or row["step"] == 40} for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    assert "How soon" in write_study_report(path).read_text(encoding="utf-8")


def test_unfinished_runs_are_told_and_a_study_without_any_still_has_a_page(tmp_path):
    skip = {(regime, rule, seed) for regime, rule in LEVELS for seed in range(5)}
    empty = write_study_report(write_all(tmp_path / "s", skip=skip)).read_text(encoding="utf-8")
    assert "60 runs are not finished and not counted: many/amft seed 0" in empty
    assert empty.count("<svg") == 0


def test_only_the_baseline_is_called_that_while_it_is_unfinished(tmp_path, page):
    skip = {(regime, "sft", seed) for regime in ("many", "noisy") for seed in range(5)}
    told = write_study_report(write_all(tmp_path / "s", skip=skip)).read_text(encoding="utf-8")
    assert told.count(">baseline <") == page.count(">baseline <") == 2  # a row in the table of each split
