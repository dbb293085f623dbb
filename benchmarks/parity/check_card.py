"""Holds the model card of a finished run to huggingface_hub: its front matter is read as the Hub's own library reads it.

Run: python check_card.py --run runs/quickstart     (needs huggingface_hub)

1. `model/README.md` loads as a ModelCard; the pipeline, the library and the tags are there.
2. Its `model-index` is read as results, and written again and read they are the same.
3. Each value is the delivered model's figure in `summary.json`.
Exits with 1 where a check fails. What the Hub itself refuses is only known to `ModelCard.validate`, which needs the network:
give --online to ask it.
"""

import argparse
import json
import pathlib
import sys

from huggingface_hub import ModelCard, ModelCardData

parser = argparse.ArgumentParser()
parser.add_argument("--run", required=True, type=pathlib.Path)
parser.add_argument("--online", action="store_true")
arguments = parser.parse_args()

failed = False


def check(what, holds, detail):
    global failed
    failed |= not holds
    print(f"{'ok   ' if holds else 'FAIL '} {what}: {detail}")


card = ModelCard.load(arguments.run / "model" / "README.md")
data = card.data
check("pipeline", data.pipeline_tag == "text-generation", data.pipeline_tag)
check("library", data.library_name == "transformers", data.library_name)
check("tags", "solon" in data.tags, ", ".join(data.tags))
print(f"      license {data.license}, base model {data.base_model}")

results = data.eval_results or []
check("results", len(results) > 0, f"{len(results)} figures of {data.model_name}")
again = ModelCardData(**ModelCard(str(card)).data.to_dict())
same = [r.to_dict() if hasattr(r, "to_dict") else vars(r) for r in again.eval_results or []] == [vars(r) for r in results]
check("written and read again", same, f"{len(again.eval_results or [])} figures")

summary = json.loads((arguments.run / "summary.json").read_text())
figures = summary["evaluations"]
for result in results:
    stage = result.dataset_name.rsplit("stage ", 1)[1]
    figure = figures[stage][summary["delivered"]][result.metric_type]
    value = figure.get("rate", figure.get("mean"))
    check(f"{stage}, {result.metric_type}", abs(value - result.metric_value) <= 5e-5, f"{result.metric_value}")

if arguments.online:
    card.validate()
    check("validated by the Hub", True, "no error")
sys.exit(1 if failed else 0)
