#!/usr/bin/env python3
"""Prints the table of a run of hh.toml: each labeller beside people, on the same pairs.

    python3 benchmarks/labels/table.py run/ pairs/

Needs Python 3.11 and nothing else. Agreement: the share of pairs whose answer that people chose is the likelier by the label; a tie is
half. Consistency: the share of pairs labelled twice, with principles drawn anew, whose two labels prefer the same answer. Certainty: the
mean distance of a label from one half, times two. Reward model: the share of other pairs of which it gives the answer that people chose
the higher reward. Intervals are Wilson's, 95 %.
"""

import argparse
import json
import sqlite3
from pathlib import Path

NAMES = ["choice", "rate", "score", "contrast", "by-critic", "trained-choice", "trained-rate", "by-reward"]


def wilson(right, total, z=1.959964):
    p, n = right / total, total
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return f"{100 * p:.0f} % ({100 * (middle - half):.0f} to {100 * (middle + half):.0f})"


def labels(ledger, stage):
    """P(first is better) and the number of questions of each pair, by the id that both files share."""
    rows = ledger.execute("SELECT data FROM items WHERE stage = ? AND kind = 'label'", (stage,))
    found = {}
    for (data,) in rows:
        data = json.loads(data)
        if not data.get("known") and data.get("label"):
            label = data["label"]
            found[label["pair_id"].removesuffix("-again")] = label["probability"], len(label["evidence"])
    return found


def side(probability):
    return (probability > 0.5) - (probability < 0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pairs", type=Path)
    given = parser.parse_args()
    # In the file people's choice stands first.
    people = {json.loads(line)["id"] for line in (given.pairs / "learn.jsonl").read_text().splitlines()}
    ledger = sqlite3.connect(f"file:{given.run / 'ledger.sqlite'}?mode=ro", uri=True)
    measured = json.loads((given.run / "summary.json").read_text())["measured"]

    def reward_model(name):
        (way,) = measured[f"test-{name}"][0]["ways"]
        return wilson(way["accuracy"]["count"], way["accuracy"]["total"])

    print("| labels by | agreement with people | consistency | certainty | questions a label | its reward model |")
    print("|---|---:|---:|---:|---:|---:|")
    print(f"| people | | | | | {reward_model('people')} |")
    for name in NAMES:
        first, again = labels(ledger, name), labels(ledger, f"{name}-again")
        sides = [side(p) for pair, (p, _) in first.items() if pair in people]
        right = sum(1 if s > 0 else 0.5 if s == 0 else 0 for s in sides)
        both = [(first[pair][0], p) for pair, (p, _) in again.items() if pair in first]
        same = sum(side(one) == side(other) for one, other in both)
        certainty = sum(abs(2 * p - 1) for p, _ in first.values()) / len(first)
        questions = max(asked for _, asked in first.values())
        model = reward_model(name.removeprefix("by-"))
        print(f"| {name} | {wilson(right, len(sides))} | {wilson(same, len(both))} | {certainty:.2f} | {questions} | {model} |")


if __name__ == "__main__":
    main()
