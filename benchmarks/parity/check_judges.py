#!/usr/bin/env python3
"""Runs HarmBench and MT-Bench with judges on real servers: llama.cpp's (from the package xllamacpp) and `solon serve`.

    python benchmarks/parity/check_judges.py --solon target/release/solon --gguf MODEL.gguf --harmbench DIR --mt-bench DIR

Needs the package xllamacpp. Both servers have the same weights, and they are asked the same. Passes where every figure is
there and the judge is measured first. That a small model is a poor judge is what its measurement shows: accuracy near one
half, kappa near 0.
"""

import argparse
import json
import multiprocessing
import pathlib
import subprocess
import sys
import time

failed = False


def llama_server(gguf, pipe):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    # Each of two requests at a time has the model's whole context; the client's others wait.
    params.n_ctx, params.n_parallel, params.port, params.verbosity = 2 * 8192, 2, 0, -1
    params.cpuparams.n_threads = 2
    server = xllamacpp.Server(params)
    pipe.send(server.listening_address)
    while True:
        time.sleep(3600)


def evaluate(given, words, judge):
    start = time.monotonic()
    command = [given.solon, "eval", *words, "--model", given.gguf, "--judge", judge, "--judge-rows", given.rows, "--json"]
    made = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    return made, time.monotonic() - start


def main():
    global failed
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solon", type=pathlib.Path, required=True)
    parser.add_argument("--gguf", type=pathlib.Path, required=True)
    parser.add_argument("--harmbench", type=pathlib.Path, required=True, help="with labelled answers in a folder beside it")
    parser.add_argument("--mt-bench", type=pathlib.Path, required=True)
    parser.add_argument("--limit", type=int, default=8, help="items of each benchmark")
    parser.add_argument("--only", choices=["harmbench", "mt-bench"])
    parser.add_argument("--rows", type=int, default=40, help="labelled answers of each set")
    given = parser.parse_args()

    ours, theirs = multiprocessing.Pipe()
    llama = multiprocessing.get_context("spawn").Process(target=llama_server, args=(given.gguf, theirs), daemon=True)
    llama.start()
    solon = subprocess.Popen(
        [given.solon, "serve", "--model", given.gguf, "--port", "0", "--name", "judge", "--quiet"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        servers = {"llama.cpp": f"{ours.recv()}/v1", "solon serve": solon.stdout.readline().strip()}
        for words in [
            ["harmbench", "--data", given.harmbench, "--limit", given.limit, "--max-new-tokens", 64],
            ["mt-bench", "--data", given.mt_bench, "--limit", given.limit, "--max-new-tokens", 64],
        ]:
            if given.only not in [None, words[0]]:
                continue
            for name, url in servers.items():
                made, seconds = evaluate(given, words, f"openai:judge@{url}")
                if made.returncode:
                    failed = True
                    print(f"FAIL  {words[0]} by {name}: {made.stderr.strip().splitlines()[-3:]}", flush=True)
                    continue
                figures = json.loads(made.stdout)
                judge = figures["judge"]
                shown = ["attack_success", "score", "unjudged", "refused_to_judge"]
                shown = ", ".join(f"{key} {figures[key]}" for key in shown if key in figures)
                good = judge["measured"] is not None and figures["items"] >= given.limit
                failed |= not good
                print(
                    f"{'ok' if good else 'FAIL':4}  {words[0]} by {name}: {shown}; judge: accuracy {judge['accuracy']}, "
                    f"kappa {judge['kappa']}; {seconds:.0f} s",
                    flush=True,
                )
    finally:
        solon.terminate()
        llama.terminate()
    sys.exit(failed)


if __name__ == "__main__":
    main()
