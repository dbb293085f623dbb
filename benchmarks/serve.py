#!/usr/bin/env python3
"""Speed of `solon serve` with many clients beside `solon generate` on the same prompts.

    python benchmarks/serve.py --solon target/release/solon --model FOLDER --prompts prompts.jsonl

Each client sends one prompt after the other and waits for the whole answer. Both are greedy, so they make the same tokens,
which is checked. The seconds of `generate` are without those it needs to start (one prompt, one token). Both run `--rounds`
times by turns; the medians and their ratio are printed. The clients run on the same machine and take their share of it.
"""

import argparse
import concurrent.futures
import http.client
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse


def generate(given, prompts, tokens):
    words = f"--temperature 0 --max-new-tokens {tokens} --batch {given.clients}".split()
    start = time.monotonic()
    made = subprocess.run(
        [given.solon, "generate", "--model", given.model, "--prompts", prompts, *words], check=True, capture_output=True, text=True
    )
    return time.monotonic() - start, [json.loads(line) for line in made.stdout.splitlines()]


def serve(given, url, texts):
    """Seconds, and the answers in order."""
    address, body = urllib.parse.urlsplit(url), {"temperature": 0, "max_tokens": given.tokens}
    places = iter(range(len(texts)))
    answers = [None] * len(texts)

    def client():
        connection = http.client.HTTPConnection(address.hostname, address.port)
        # The next place is handed out by the interpreter's lock.
        for place in places:
            asked = {**body, "messages": [{"role": "user", "content": texts[place]}]}
            connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"Content-Type": "application/json"})
            answers[place] = json.loads(connection.getresponse().read())

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(given.clients) as pool:
        for done in [pool.submit(client) for _ in range(given.clients)]:
            done.result()
    return time.monotonic() - start, answers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solon", type=pathlib.Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=pathlib.Path, required=True, help='JSONL of {"prompt"}')
    parser.add_argument("--count", type=int, default=192, help="prompts")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128, help="largest number of new tokens")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.prompts.read_text().splitlines()]
    texts = [row["prompt"] for row in rows if isinstance(row.get("prompt"), str)][: given.count]
    server = subprocess.Popen(
        [given.solon, "serve", "--model", given.model, "--port", "0", "--batch", str(given.clients), "--quiet"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    figures = []
    try:
        url = server.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as scratch:
            prompts, one = pathlib.Path(scratch, "prompts.jsonl"), pathlib.Path(scratch, "one.jsonl")
            prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
            one.write_text(json.dumps({"prompt": texts[0]}) + "\n")
            serve(given, url, texts[: given.clients])
            for _ in range(given.rounds):
                startup, _ = generate(given, one, 1)
                alone, expected = generate(given, prompts, given.tokens)
                served, answers = serve(given, url, texts)
                said = [answer["choices"][0]["message"]["content"] for answer in answers]
                assert said == [row["completion"] for row in expected], "the answers are not the same"
                figures.append((sum(len(row["token_ids"]) for row in expected), alone - startup, served))
    finally:
        server.terminate()
    tokens = figures[0][0]
    alone, served = (tokens / statistics.median(figure[place] for figure in figures) for place in [1, 2])
    print(
        f"{len(texts)} prompts, {tokens} new tokens, the same; generate --batch {given.clients} {alone:.0f} tokens/s, "
        f"serve with {given.clients} clients {served:.0f} tokens/s: {100 * served / alone:.0f} %"
    )
    sys.exit(served < 0.9 * alone)


if __name__ == "__main__":
    main()
