#!/usr/bin/env python3
"""Labels pairs with `solon label` on real servers: llama.cpp's (from the package xllamacpp) and `solon serve`.

    python benchmarks/parity/check_label.py --solon target/release/solon --gguf MODEL.gguf --pairs PAIRS.jsonl

Needs the package xllamacpp. All have the same weights. Passes where every pair has a row with its id, a second run asks nothing,
and the labels by `solon serve` have the log-probs of the labels by the same model in this process, where the server's likeliest
token is one of the options (else it votes). Of llama.cpp, whose arithmetic is another, the mean difference is shown.
"""

import argparse
import json
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile
import time

from check_judges import llama_server

failed = False


def check(good, what):
    global failed
    failed |= not good
    print(f"{'ok   ' if good else 'FAIL '} {what}", flush=True)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def label(given, out, words):
    start = time.monotonic()
    command = [given.solon, "label", "--input", given.pairs, "--out", out, "--precision", "f32", *words]
    made = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if made.returncode:
        check(False, f"{out.name}: {made.stderr.strip().splitlines()[-3:]}")
    return made.stderr, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solon", type=pathlib.Path, required=True)
    parser.add_argument("--gguf", type=pathlib.Path, required=True)
    parser.add_argument("--pairs", type=pathlib.Path, required=True, help="preference pairs, JSONL")
    given = parser.parse_args()
    ids = [row["id"] for row in rows(given.pairs)]

    ours, theirs = multiprocessing.Pipe()
    llama = multiprocessing.get_context("spawn").Process(target=llama_server, args=(given.gguf, theirs), daemon=True)
    llama.start()
    solon = subprocess.Popen(
        [given.solon, "serve", "--model", given.gguf, "--port", "0", "--name", "judge", "--precision", "f32", "--quiet"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        servers = {"llama.cpp": f"{ours.recv()}/v1", "solon serve": solon.stdout.readline().strip()}
        with tempfile.TemporaryDirectory() as folder:
            here = pathlib.Path(folder) / "here.jsonl"
            _, seconds = label(given, here, ["--model", given.gguf])
            own = {row["pair_id"]: row for row in rows(pathlib.Path(f"{here}.labels.jsonl"))}
            print(f"      in this process: {len(own)} labels in {seconds:.1f} s")
            for name, url in servers.items():
                out = pathlib.Path(folder) / f"{name.replace(' ', '-')}.jsonl"
                words = ["--judge", f"openai:judge@{url}"]
                told, seconds = label(given, out, words)
                if not out.exists():
                    continue
                written = rows(out)
                check([row["id"] for row in written] == ids, f"{name}: a row for each of {len(ids)} pairs, in {seconds:.1f} s")
                without = [row["unlabelled"] for row in written if "unlabelled" in row]
                labels = rows(pathlib.Path(f"{out}.labels.jsonl"))
                shown, voted, apart = 0, 0, []
                for one in labels:
                    for asked, known in zip(one["evidence"], own[one["pair_id"]]["evidence"]):
                        if asked.get("votes"):
                            voted += 1
                            continue
                        shown += 1
                        # Servers list the likeliest tokens alone, and add up those that differ in case or in white space.
                        odds = [evidence["log_probs"][0] - evidence["log_probs"][1] for evidence in (asked, known)]
                        apart.append(abs(odds[0] - odds[1]))
                apart.sort()
                middle = apart[len(apart) // 2] if apart else float("nan")
                what = f"{name}: {shown} questions by log-probs, {voted} by votes, {len(without)} pairs unlabelled {sorted(set(without))[:3]}; log-odds differ by {middle:.4f} (median)"
                check(len(labels) + len(without) == len(ids) and (name != "solon serve" or not apart or middle < 0.05), what)
                told, seconds = label(given, out, words)
                check("label: " not in told or " 0 requests" in told or "requests" not in told, f"{name}: a second run asks nothing")
    finally:
        solon.terminate()
        llama.terminate()
    sys.exit(failed)


if __name__ == "__main__":
    main()
