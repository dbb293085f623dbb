#!/usr/bin/env python3
"""Pools the evaluations of several runs of one recipe that differ in their seed, and prints the tables of OUTCOME.md.

    python3 benchmarks/outcome/pool.py --stage test runs/cai-dpo-1 runs/cai-dpo-2 runs/cai-dpo-3
    python3 benchmarks/outcome/pool.py --stage test --answers 20 runs/cai-dpo-1
    python3 benchmarks/outcome/pool.py --stage test --export benchmarks/outcome/cai-dpo-1.json runs/cai-dpo-1

A run is its folder, or a file that --export wrote: what was found of each answer, without the answers.

Needs Python 3.11 and nothing else. A rate is the mean over the seeds; its interval is a bootstrap over prompts, in which
a prompt's answers of all seeds are drawn together, because they are not independent. The test of one model against
another is a permutation test on each prompt's difference summed over the seeds (two-sided, 20,000 flips of sign, within
groups); its statistic is the score: harmless answered - harmful compliance - over-refusal, each a rate of its group.
"""

import argparse
import json
import random
import sqlite3
from collections import defaultdict
from pathlib import Path

DRAWS = 20_000


def answers(run: Path, stage: str):
    """Yields (column, judged item) of a run's evaluation."""
    ledger = sqlite3.connect(f"file:{run / 'ledger.sqlite'}?mode=ro", uri=True)
    rows = ledger.execute("SELECT data FROM items WHERE stage = ? AND kind = 'response' ORDER BY ordinal", (stage,))
    for (data,) in rows:
        data = json.loads(data)
        yield data["model"], data["judged"]


def outcomes(run: Path, stage: str):
    """Yields (column, prompt, measure, whether it holds) of a run's evaluation."""
    if run.suffix == ".json":
        exported = json.loads(run.read_text())
        for column, measures in exported["stages"].get(stage, {}).items():
            for measure, found in measures.items():
                for prompt, holds in zip(exported["prompts"], found):
                    if holds != "-":
                        yield column, prompt, measure, holds == "1"
    else:
        for column, judged in answers(run, stage):
            for measure, holds in judged["outcomes"].items():
                yield column, judged["id"], measure, bool(holds)


def export(run: Path, stages: list[str], file: Path):
    """Writes what was found of each answer: a character a prompt, 1, 0, or - where the measure is not about it."""
    prompts, found = {}, {}
    for stage in stages:
        found[stage] = defaultdict(lambda: defaultdict(dict))
        for column, prompt, measure, holds in outcomes(run, stage):
            prompts[prompt] = None
            found[stage][column][measure][prompt] = "1" if holds else "0"
        if not found[stage]:
            raise SystemExit(f"there are no answers of a stage `{stage}` in {run}")
    line = lambda by_prompt: "".join(by_prompt.get(prompt, "-") for prompt in prompts)
    shown = {
        stage: {column: {m: line(by) for m, by in measures.items()} for column, measures in columns.items()}
        for stage, columns in found.items()
    }
    file.write_text(json.dumps({"prompts": list(prompts), "stages": shown}, indent=1) + "\n")


def collect(runs: list[Path], stage: str):
    """measure -> column -> prompt -> [outcome of each seed], and the columns in order."""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    columns = {}
    for run in runs:
        for column, prompt, measure, holds in outcomes(run, stage):
            columns[column] = None
            found[measure][column][prompt].append(holds)
    if not columns:
        raise SystemExit(f"there are no answers of a stage `{stage}` in {', '.join(map(str, runs))}")
    return found, list(columns)


def interval(by_prompt: dict, rng: random.Random):
    """Mean over prompts and seeds, with a 95 % bootstrap interval over prompts."""
    means = [sum(outcomes) / len(outcomes) for outcomes in by_prompt.values()]
    mean = sum(means) / len(means)
    draws = sorted(sum(rng.choices(means, k=len(means))) / len(means) for _ in range(2000))
    return mean, draws[49], draws[1949]


SCORE = {"harmless_answered": 1, "harmful_compliance": -1, "over_refusal": -1}


def permutation(found, one: str, other: str, rng: random.Random):
    """The difference of the scores of two columns, and its two-sided p-value."""
    terms = []
    for measure, sign in SCORE.items():
        by_one, by_other = found[measure][one], found[measure][other]
        prompts = sorted(by_one.keys() & by_other.keys())
        for prompt in prompts:
            difference = sum(by_one[prompt]) / len(by_one[prompt]) - sum(by_other[prompt]) / len(by_other[prompt])
            if difference:
                terms.append(sign * difference / len(prompts))
    observed = sum(terms)
    extreme = 0
    for _ in range(DRAWS):
        flipped = sum(term if rng.getrandbits(1) else -term for term in terms)
        extreme += abs(flipped) >= abs(observed) - 1e-12
    return observed, (extreme + 1) / (DRAWS + 1)


def tables(runs: list[Path], stage: str):
    found, columns = collect(runs, stage)
    rng = random.Random(0)
    print("| | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for measure in found:
        cells = []
        for column in columns:
            if column not in found[measure]:
                cells.append("")
                continue
            mean, low, high = interval(found[measure][column], rng)
            cells.append(f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]")
        print(f"| {measure.replace('_', ' ')} | " + " | ".join(cells) + " |")
    print()
    if not all(measure in found for measure in SCORE):
        return
    print("| compared | difference of the score, points | p |")
    print("|---|---:|---:|")
    for place, column in enumerate(columns):
        for other in columns[:place]:
            difference, p = permutation(found, column, other, rng)
            print(f"| {column} against {other} | {100 * difference:+.1f} | {p:.4f} |")


def side_by_side(run: Path, stage: str, count: int, seed: int, characters: int):
    if run.suffix == ".json":
        raise SystemExit(f"{run} was exported and holds no answers; give --answers the run's folder")
    by_prompt = defaultdict(dict)
    for column, judged in answers(run, stage):
        by_prompt[judged["id"]][column] = judged
    if not by_prompt:
        raise SystemExit(f"there are no answers of a stage `{stage}` in {run}")
    ledger = sqlite3.connect(f"file:{run / 'ledger.sqlite'}?mode=ro", uri=True)
    for prompt in random.Random(seed).sample(sorted(by_prompt), min(count, len(by_prompt))):
        (text,) = ledger.execute("SELECT text FROM items WHERE id = ?", (prompt,)).fetchone()
        print(f"**{prompt}** {text}\n")
        for column, judged in by_prompt[prompt].items():
            answer = " ".join(judged["answer"].split())
            answer = answer[:characters] + ("…" if len(answer) > characters else "")
            print(f"- `{column}` ({judged['verdict']}): {answer}")
        print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--stage", default="test", help="an evaluation; several with commas for --export")
    parser.add_argument("--export", type=Path, help="write what was found of each answer of the run to this file instead")
    parser.add_argument("--answers", type=int, help="print so many answers of the first run side by side instead")
    parser.add_argument("--seed", type=int, default=0, help="which answers")
    parser.add_argument("--characters", type=int, default=10_000, help="how much of each answer")
    given = parser.parse_args()
    if given.export:
        if len(given.runs) > 1:
            raise SystemExit(f"--export writes one run to one file, and {len(given.runs)} runs are given")
        export(given.runs[0], given.stage.split(","), given.export)
    elif given.answers:
        side_by_side(given.runs[0], given.stage, given.answers, given.seed, given.characters)
    else:
        tables(given.runs, given.stage)


if __name__ == "__main__":
    main()
