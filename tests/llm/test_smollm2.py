"""SmolLM2-135M-Instruct itself (`make test-llm`): it talks, learns sums, and is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from amft.cli import main

ROOT = Path(__file__).parents[2]
HOME = Path(os.environ.get("AMFT_SMOLLM2", ROOT / "smollm2")).resolve()
pytestmark = pytest.mark.skipif(
    not (HOME / "model.safetensors").is_file(), reason=f"the weights of SmolLM2 are not in {HOME}: amft fetch smollm2"
)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, ROOT / "recipes" / "smollm2" / "sums.py", "sums"], check=True)
    return tmp_path


@pytest.mark.usefixtures("workplace")
def test_it_answers_in_words_and_stops(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(HOME), "--prompt", "What is the capital of France?", "--max-tokens", "40"]) == 0
    assert "The capital of France is Paris." in capsys.readouterr().out


@pytest.mark.usefixtures("workplace")
def test_a_few_steps_of_the_recipe_teach_it_sums() -> None:
    """The whole model; an adapter needs more steps than fourteen to gain anything."""
    words = ["train", str(ROOT / "recipes" / "smollm2" / "sums.yaml"), "--output-dir", "run"]
    settings = [f"model={HOME}", f"data.rewards=[{ROOT}/recipes/smollm2/sums.py:right]", "eval.steps=0"]
    settings += ["max_steps=14", "sft_warmup_steps=10"]
    Path("sums/test.jsonl").write_text("".join(Path("sums/test.jsonl").read_text().splitlines(keepends=True)[:64]))
    assert main([*words, *(word for setting in settings for word in ("--set", setting))]) == 0
    from amft.report.load import load_run
    from amft.report.outcomes import split_outcomes

    (outcome,) = split_outcomes(load_run("run"))
    assert outcome.before is not None
    assert outcome.difference is not None
    assert 0.1 < outcome.before.mean < 0.4
    assert outcome.difference.mean > 0.15
    model = transformers.AutoModelForCausalLM.from_pretrained("run/model")
    tokenizer = transformers.AutoTokenizer.from_pretrained("run/model")
    ask = [{"role": "user", "content": "What is 20 plus 30? Reply with the number only."}]
    ids = tokenizer.apply_chat_template(ask, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    answer = model.generate(ids, max_new_tokens=50, do_sample=False)[0, ids.shape[1] :]
    assert len(answer) < 10
    assert tokenizer.decode(answer).endswith("<|im_end|>")
