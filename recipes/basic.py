"""Train the nano model to make 24 from four cards, with a learned balance of imitation and exploration.

    python recipes/basic.py                                   # the demonstration
    python recipes/basic.py max_steps=60 'balance={"rule": "sft"}'    # any setting of AMFTConfig, values in JSON

Expect: success on `id` from 16 % to about 50 %, in about five minutes on 2 CPU cores (docs/results.md).
"""

import argparse
import json

from amft import AMFTConfig, AMFTTrainer, build_task
from amft.report.page import write_report

SETTINGS = {
    "output_dir": "runs/basic",
    "balance": {"rule": "amft"},
    "max_steps": 70,
    "sft_warmup_steps": 5,
    "num_prompts": 4,
    "num_demos": 16,
    "max_completion_length": 320,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "lr_warmup_steps": 5,
    "dtype": "auto",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="nano, or a model directory")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    arguments = parser.parse_args()
    given = dict(setting.split("=", 1) for setting in arguments.settings)
    config = AMFTConfig(**SETTINGS | {name: json.loads(value) for name, value in given.items()})

    trainer = AMFTTrainer(arguments.model, config, task=build_task("general_points", demonstrations="search"))
    result = trainer.train()

    for row in result.table:
        print(f"{row['split']:10} {row['before']:6.1%} -> {row['after']:6.1%}  of {row['n']}")
    print(f"report: {write_report(result.run)}")


if __name__ == "__main__":
    main()
