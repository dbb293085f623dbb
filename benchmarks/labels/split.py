#!/usr/bin/env python3
"""Writes the pairs of hh.toml: conversations from hh-rlhf's harmless-base test set, with people's choices.

    python3 benchmarks/labels/split.py harmless-base-test.jsonl.gz pairs/

Writes learn.jsonl (160 pairs that labellers label and reward models learn from), again.jsonl (the first 40 of these, to
be labelled a second time) and test.jsonl (200 other pairs that measure the reward models), all conversations of one turn;
and other.jsonl (120 conversations of several turns), from which a reward model learns that labels the first. Which pair
goes where depends on the hash of its prompt alone, so two pairs of one prompt are in one file. Pairs with a text of more
than 600 characters are left out, so that a pass on two cores takes minutes.
"""

import argparse
import gzip
import hashlib
import json
import re
from pathlib import Path

LEARN, AGAIN, TEST, OTHER = 160, 40, 200, 120
LONGEST = 600


def conversation(text: str):
    """The turns of a conversation that ends with an answer; None of one that does not, or has an empty or a long one."""
    parts = re.split(r"\n\n(Human|Assistant):", text)
    roles, texts = parts[1::2], [text.strip() for text in parts[2::2]]
    expected = ["Human", "Assistant"] * (len(roles) // 2)
    if parts[0] or not roles or roles != expected or not all(0 < len(text) <= LONGEST for text in texts):
        return None
    names = {"Human": "user", "Assistant": "assistant"}
    return [{"role": names[role], "content": text} for role, text in zip(roles, texts)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    single, several = [], []
    with gzip.open(args.source, "rt", encoding="utf-8") as rows:
        for line, row in enumerate(rows, 1):
            row = json.loads(row)
            chosen, rejected = conversation(row["chosen"]), conversation(row["rejected"])
            if not chosen or not rejected or chosen[:-1] != rejected[:-1] or chosen == rejected:
                continue
            pair = {"id": f"hh-{line}", "prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}
            (single if len(chosen) == 2 else several).append(pair)
    for pairs in (single, several):
        pairs.sort(key=lambda pair: hashlib.sha256(json.dumps(pair["prompt"]).encode()).hexdigest())
    cut = LEARN
    while cut < len(single) and single[cut]["prompt"] == single[cut - 1]["prompt"]:
        cut += 1
    learn, test = single[:cut], single[cut : cut + TEST]
    if len(test) < TEST or len(several) < OTHER:
        raise SystemExit(f"error: {len(single)} pairs of one turn and {len(several)} of several are too few")
    args.out.mkdir(parents=True, exist_ok=True)
    again = [{**pair, "id": pair["id"] + "-again"} for pair in learn[:AGAIN]]
    for name, chosen in [("learn", learn), ("again", again), ("test", test), ("other", several[:OTHER])]:
        path = args.out / f"{name}.jsonl"
        path.write_text("".join(json.dumps(pair) + "\n" for pair in chosen), encoding="utf-8")
        print(f"{len(chosen)} pairs in {path}")


if __name__ == "__main__":
    main()
