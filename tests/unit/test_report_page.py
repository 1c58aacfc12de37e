import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from report_runs import ENV, changed, config, metric_rows, sample_row, score_rows, write_run
from tiny_runs import tiny_model, train

from amft.errors import RunError
from amft.report.load import load_run
from amft.report.next_card import next_card
from amft.report.outcomes import turned
from amft.report.page import write_report
from amft.report.plot_style import PURPLE, Curve, Panel, hover_texts, step_figure
from amft.runs import STREAMS, RunDirectory

HOSTILE = "</pre></div><script>document.title='owned'</script><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }}"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Outline(HTMLParser):
    """Every element and attribute of a page; fails on unbalanced tags."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag in ("dt", "dd", "p", "li") and self.open[-1] != tag:
            raise AssertionError(f"</{tag}> closes {self.open[-1]}")
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data


FEW = [{"step": step, "phase": "mix", "reward": 0.1 * step} for step in range(1, 6)]


def page(path, metrics=FEW, **options):
    """A page with a single figure over steps, unless told otherwise."""
    written = write_report(write_run(path / "r", metrics=metrics, **options)).read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(written)
    assert outline.open == []
    return written, outline


def test_a_page_with_a_finding_does_not_say_that_every_check_passed(tmp_path):
    noise = changed(**{"mix/meta_grad": lambda step: (-1) ** step * 1e-4})
    text, _ = page(tmp_path / "a", metrics=noise, scores=list(score_rows("id", 0.1, 0.6)))
    assert "cannot be told from noise" in text
    assert "Every check passed" not in text
    text, _ = page(tmp_path / "b", metrics=None, scores=list(score_rows("id", 0.1, 0.6)))
    assert "Every check passed" in text


def test_the_page_is_whole_and_loads_nothing(tmp_path):
    text, outline = page(tmp_path, metrics=None)
    assert outline.tags.count("svg") == 10  # eight figures over steps, one before and after, one in a tile
    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
    assert "default-src 'none'" in text
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert all(
        value.startswith("#") or value.removesuffix(".jsonl") in STREAMS
        for name, value in outline.attributes
        if name in ("src", "href", "xlink:href") and value
    )
    for words in ("Success on id rose", "under investigation", "No problem found", "take no position"):
        assert words in text


def test_adversarial_text_is_only_text_wherever_it_stands(tmp_path):
    scores = [{**row, "split": HOSTILE, "key": HOSTILE + row["key"]} for row in score_rows("id", 0.2, 0.5)]
    samples = [{**sample_row(10, 0, prompt=HOSTILE, text=HOSTILE), "key": HOSTILE}]
    samples[0]["completions"] = [{"text": HOSTILE, "reward": 1.0, "outcome": HOSTILE}]
    text, outline = page(
        tmp_path, scores=scores, samples=samples, events=[{"step": 1, "kind": HOSTILE, "message": HOSTILE}],
        env={**ENV, "command": HOSTILE}, config_changes={"model": HOSTILE, "task": {"id": HOSTILE}},
    )  # fmt: skip
    assert "<script" not in text
    assert not {"script", "img"} & set(outline.tags)
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    assert outline.text.count("<script>document.title='owned'</script>") >= 8
    assert "{{ 7 * 7 }}" in outline.text


def test_characters_that_hide_or_break_are_made_visible(tmp_path):
    text = "a\x00b\u202ec\ud800d\x1b[31m"
    written, outline = page(tmp_path, samples=[sample_row(10, 4, text=text)])
    assert r"a\u0000b\u202ec\ud800d\u001b[31m" in outline.text
    assert not set("\x00\u202e\x1b") & set(written)


def test_long_text_is_cut_and_says_so(tmp_path):
    written, _ = page(tmp_path, samples=[sample_row(10, 4, text="x" * 50_000)])
    assert "(48500 more characters)" in written
    assert "x" * 1501 not in written


def test_samples_are_early_middle_and_late_with_rewards_and_outcomes(tmp_path):
    samples = [sample_row(step, 2, text=f"answer of step {step}") for step in range(10, 60, 10)]
    samples[-1]["completions"][3] |= {"reward": None, "outcome": None}
    _, outline = page(tmp_path, samples=samples)
    assert [step for step in range(10, 60, 10) if f"answer of step {step}" in outline.text] == [10, 30, 50]
    tones = [value for name, value in outline.attributes if name == "class" and value.startswith("rollout ")]
    assert tones.count("rollout good") == 6
    assert tones.count("rollout none") == 1
    assert "not scored" in outline.text
    assert "wrong value" in outline.text


def test_the_page_says_what_to_do_next(tmp_path):
    _, outline = page(tmp_path / "good", metrics=None)
    assert "No checkpoint is complete yet." in outline.text
    assert "--set balance.rule=fixed" in outline.text
    advised, _ = page(tmp_path / "cut", metrics=list(changed(**{"completions/clipped_ratio": 0.6})))
    assert "Raise max_completion_length (now 96)" in advised
    assert "(completions are cut off.)" in advised


def test_a_trained_model_is_found_and_loaded_as_the_card_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = train("runs/x", "fixed", max_steps=2, num_prompts=1).run_logger.run.path
    card = next_card(load_run(result), [])
    assert card.model == "runs/x/model"
    shutil.rmtree("runs/x/model")
    assert next_card(load_run(result), []).model == "runs/x/checkpoints/step-2/model"
    found = {}
    exec(card.load.replace(card.model, "runs/x/checkpoints/step-2/model"), found)
    assert found["model"].num_parameters() == tiny_model().num_parameters()
    assert "amft doctor runs/x" in card.commands


def test_problems_that_turned_are_counted(tmp_path):
    rows = [
        {"step": step, "model": model, "split": "id", "key": str(i), "problem": str(i), "sample": 0, "correct": right}
        for step, model, answers in ((0, "base", [0, 0, 1, 1]), (9, "policy", [1, 1, 0, 1]))
        for i, right in enumerate(answers)
    ]
    assert turned(load_run(write_run(tmp_path / "r", scores=rows))) == [("id", 4, 2, 1)]


def test_figures_tell_their_values_to_a_pointer(tmp_path):
    steps = np.arange(1, 201)
    panel = Panel([Curve(steps, steps / 200, "mu", PURPLE)])
    texts = hover_texts(panel)
    assert len(texts) <= 60
    assert texts[1] == "step 1: mu 0.005"
    assert step_figure("x", [panel], warmup=None, last=200).count("<title>step ") == len(texts)


def test_the_same_run_gives_the_same_page(tmp_path):
    path = write_run(tmp_path / "r", metrics=FEW)
    first = write_report(path).read_bytes()
    assert write_report(path).read_bytes() == first
    assert sorted(file.name for file in path.iterdir() if "report" in file.name) == ["report.html"]


@pytest.mark.parametrize("drop", ["mix/", "sft/", "none at all"])
def test_runs_without_one_branch_are_drawn(tmp_path, drop):
    rows = [
        {"step": row["step"], "phase": row["phase"]}
        | {name: value for name, value in row.items() if not name.startswith(drop) and drop != "none at all"}
        for row in metric_rows(60)
    ]
    _, outline = page(tmp_path, metrics=rows, scores=[], samples=[], env=None)
    assert outline.tags.count("svg") == {"mix/": 5, "sft/": 9, "none at all": 0}[drop]
    assert "No test split has been scored" in outline.text


def test_a_run_that_has_only_just_begun(tmp_path):
    RunDirectory.create(tmp_path / "r").write("config", config())
    text = write_report(tmp_path / "r").read_text()
    assert "Nothing has been measured yet" in text
    assert "<svg" not in text


def test_before_alone_and_one_hand_do_not_break_the_page(tmp_path):
    scores = [*score_rows("id", 0.3, None), *score_rows("seen", 0, 1, hands=1)]
    _, outline = page(tmp_path, scores=scores)
    assert "Only the model as it came has been scored" in outline.text
    for words in ("[0.0, 97.5]", "[2.5, 100.0]", "too few to tell"):
        assert words in outline.text


def test_not_a_run(tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        write_report(tmp_path)
