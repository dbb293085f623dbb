#!/usr/bin/env python3
"""Prints the tables of a run of judges.toml: how far each labeller agrees with people, by how it is asked.

    python3 benchmarks/labels/judges.py run/ data/testset-v1.json

Needs Python 3.11 and nothing else. Right: the share of pairs with a label whose answer that people chose is the likelier, with Wilson's
95 % interval; guessing gives 50. Both orders: on how many pairs it chooses the same answer when the two are swapped; guessing gives 50.
Calibration: the mean distance of its confidence from how often it is right, without what chance adds (0 is best). Where a cell has
three numbers, they are of the three sets. Seconds: for a pair of hh-rlhf, on this machine, if the run was not broken off and nothing
else ran. The last argument is
PandaLM's test set, of which three people judged each pair: each of them beside the other two, where these agree and nobody says "tie",
stands in the first row.
"""

import argparse
import json
import sqlite3
from pathlib import Path

MODELS = {
    "base": "as it is",
    "critic": "after the critic's warm-up",
    "labeller-choice": "trained to `choice`",
    "labeller-rate": "trained to `rate`",
    "labeller-apart": "trained to `apart`",
    "reward": "a reward model",
}
SETS = {"438HHHEvaluations": "HHH", "testset-v1": "PandaLM", "test": "hh-rlhf"}
TIMED = "test"
QUESTIONS = {"HarmfulVsEthical": "harmful or ethical", "HarmfulnessClassification": "which kind of harm"}
FORMS = {"texts": "`choice`, as a text", "reasons": "`choice-cot`"}


def wilson(right, total, z=1.959964):
    p, n = right / total, total
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return f"{100 * p:.0f} ({100 * (middle - half):.0f} to {100 * (middle + half):.0f})"


def right(way):
    accuracy = way["accuracy"]
    return wilson(accuracy["count"], accuracy["total"]) if accuracy["total"] else "no label"


def find(report, *keys):
    """The number under these keys, if there is one."""
    for key in keys:
        report = (report or {}).get(key)
    return report


def each(numbers, times, digits):
    """The numbers of all sets, in their order; nothing where no set has one."""
    if all(number is None for number in numbers):
        return ""
    return ", ".join("-" if number is None else f"{times * number:.{digits}f}" for number in numbers)


def people(path):
    """How often one of PandaLM's people says what the other two agree on."""
    agreed = total = 0
    for row in json.loads(path.read_text(encoding="utf-8")):
        votes = [int(row[f"annotator{number}"]) for number in (1, 2, 3)]
        for place, vote in enumerate(votes):
            one, other = votes[:place] + votes[place + 1 :]
            # 0 is a tie.
            if one == other and one and vote:
                agreed, total = agreed + (vote == one), total + 1
    return wilson(agreed, total)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("panda", type=Path)
    given = parser.parse_args()
    ledger = sqlite3.connect(f"file:{given.run / 'ledger.sqlite'}?mode=ro", uri=True)
    # What is done of a run that is under way counts.
    details = {name: json.loads(detail or "null") or {} for name, detail in ledger.execute("SELECT name, detail FROM stages")}
    measured = {name: detail["sets"] for name, detail in details.items() if "sets" in detail}
    rows, questions, unlabelled, seconds = {}, {}, {}, {}
    for stage, sets in measured.items():
        model, form = stage.rsplit("-", 1)
        took = details[stage]["seconds_of_this_attempt"]
        for found in sets:
            for way in found["ways"]:
                if found["set"] in QUESTIONS:
                    questions.setdefault(MODELS[model], {})[found["set"]] = way, found["chance"]
                    continue
                ask = FORMS.get(form, f"`{way['ask']}`")
                rows.setdefault((MODELS[model], ask), {})[found["set"]] = way
                if found["set"] == TIMED:
                    seconds[MODELS[model], ask] = took[f"{TIMED}/{way['ask']}"] / found["items"]
                for reason, count in way["unlabelled"].items():
                    of = f"{MODELS[model]}, {ask}: {reason}"
                    unlabelled[of] = unlabelled.get(of, 0) + count

    print(f"| model | asked | {' | '.join(f'{name}, right %' for name in SETS.values())} | both orders, % | calibration | seconds |")
    print("|---|---|" + "---:|" * (len(SETS) + 3))
    print(f"| one person beside two others | | | {people(given.panda)} | | | | |")
    for (model, ask), ways in rows.items():
        cells = [right(ways[name]) if name in ways else "" for name in SETS]
        reports = [ways[name]["report"] if name in ways else {} for name in SETS]
        orders = each([find(report, "known_labels", "swap", "consistency") for report in reports], 100, 0)
        errors = each([find(report, "known", "debiased_calibration_error") for report in reports], 1, 2)
        print(f"| {model} | {ask} | {' | '.join(cells)} | {orders} | {errors} | {seconds.get((model, ask), 0):.2f} |")
    print()
    print(f"| model | {' | '.join(f'{name}, right %' for name in QUESTIONS.values())} |")
    print("|---|" + "---:|" * len(QUESTIONS))
    chances = next(iter(questions.values()), {})
    print(f"| chance | {' | '.join(f'{100 * chances[name][1]:.0f}' for name in QUESTIONS if name in chances)} |")
    for model, ways in questions.items():
        print(f"| {model} | {' | '.join(right(ways[name][0]) for name in QUESTIONS if name in ways)} |")
    if unlabelled:
        print("\nWithout a label:", "; ".join(f"{count} {of}" for of, count in unlabelled.items()))


if __name__ == "__main__":
    main()
