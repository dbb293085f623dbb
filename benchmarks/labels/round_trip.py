#!/usr/bin/env python3
"""From a constitution to a model, and from the model's choices back to a constitution.

    solon run recipes/quickstart.toml --out runs/quickstart
    python3 benchmarks/labels/round_trip.py --solon target/release/solon --base smollm2-135m-instruct \\
        --trained runs/quickstart/model --constitution constitutions/default.toml

Needs Python 3.11 and nothing else. Base and trained model answer the same prompts, greedily; a pair is the trained model's answer,
which counts as chosen, and the base model's. `solon constitution infer` looks for principles that explain these choices, once asked of
the base model and once of the trained one, and `solon constitution diff` compares what it found with the constitution that the model
was trained by. The prompts are prompts/dev.jsonl, from which the quickstart learns nothing.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import tempfile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solon", type=pathlib.Path, required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--trained", required=True)
    parser.add_argument("--constitution", type=pathlib.Path, required=True)
    parser.add_argument("--prompts", type=pathlib.Path, default="prompts/dev.jsonl")
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--out", type=pathlib.Path, help="folder for pairs and constitutions [default: none is kept]")
    given = parser.parse_args()

    def solon(*words):
        made = subprocess.run([str(given.solon), *map(str, words)], capture_output=True, text=True)
        if made.returncode:
            raise SystemExit(made.stderr)
        return made.stdout + made.stderr

    prompts = [json.loads(line) for line in given.prompts.read_text(encoding="utf-8").splitlines()]
    prompts = [prompts[place * len(prompts) // given.rows] for place in range(min(given.rows, len(prompts)))]
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.out or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        asked = folder / "prompts.jsonl"
        asked.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in prompts), encoding="utf-8")
        answers = []
        for model in (given.base, given.trained):
            words = ["generate", "--model", model, "--prompts", asked, "--temperature", "0", "--max-new-tokens", "48"]
            rows = [json.loads(line) for line in solon(*words).splitlines() if line.startswith("{")]
            answers.append([row["completion"] for row in rows])
        pairs = [
            {"id": f"pair-{place}", "prompt": row["prompt"], "chosen": after, "rejected": before}
            for place, (row, before, after) in enumerate(zip(prompts, *answers, strict=True))
            if before.strip() and after.strip() and before != after
        ]
        kinds = collections.Counter(prompts[int(pair["id"].removeprefix("pair-"))].get("kind") for pair in pairs)
        print(f"{len(pairs)} of {len(prompts)} answers differ: {dict(kinds)}", flush=True)
        choices = folder / "choices.jsonl"
        choices.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
        for name, model in (("base", given.base), ("trained", given.trained)):
            found = folder / f"inferred-by-{name}.toml"
            print(f"\nasked of the {name} model:")
            print(solon("constitution", "infer", "--model", model, "--pairs", choices, "--out", found), flush=True)
            if found.exists():
                print(solon("constitution", "diff", given.constitution, found), flush=True)


if __name__ == "__main__":
    main()
