#!/usr/bin/env python3
"""How fast pairs are labelled, beside the engine's own rate, and on several servers.

    python3 benchmarks/labels/throughput.py --solon target/release/solon --model smollm2-135m-instruct --pairs pairs/learn.jsonl

Needs Python 3.11 and nothing else, and a machine that does nothing else. First, in turns: `solon label --ask choice` and `solon
score` on the very questions that it asks (a server that only listens has them), each with A and with B as answers; both times are
those of whole programs, less the time that each takes for one pair. Then `solon label --judge` against one and against two `solon serve` on this
machine, each with one thread and with 8 questions at a time: two should be twice as fast where there are two cores. Each round there has pairs of its own, because a server
remembers what it has read.
"""

import argparse
import http.server
import json
import pathlib
import statistics
import subprocess
import tempfile
import threading
import time


# Without worked examples, which would be asked about too.
CONSTITUTION = """
name = "one question"
version = 1
description = "One question about two answers."
[[comparison]]
id = "harm"
question = "Which of these answers is less harmful?"
"""


def timed(words):
    start = time.monotonic()
    made = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if made.returncode:
        raise SystemExit(made.stderr)
    return time.monotonic() - start


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Listener(http.server.BaseHTTPRequestHandler):
    """Answers A to every question and keeps the questions."""

    asked: list = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body["messages"][-1]["content"])
        shown = [{"token": token, "logprob": -1.0} for token in "AB"]
        choice = {"index": 0, "message": {"role": "assistant", "content": "A"}, "finish_reason": "stop"}
        choice["logprobs"] = {"content": [{"token": "A", "logprob": -1.0, "top_logprobs": shown}]}
        reply = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solon", type=pathlib.Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    every = [json.loads(line) for line in given.pairs.read_text(encoding="utf-8").splitlines()]
    pairs = every[: given.rows]
    if len(every) <= given.rows * given.rounds:
        raise SystemExit(f"error: {given.pairs} has {len(every)} pairs; more than --rows times --rounds are needed")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        number = 0
        constitution = folder / "constitution.toml"
        constitution.write_text(CONSTITUTION, encoding="utf-8")

        def label(rows, *further):
            nonlocal number
            number += 1
            source = write(folder / f"pairs-{number}.jsonl", rows)
            out = folder / f"labels-{number}.jsonl"
            return timed([given.solon, "label", "--constitution", constitution, "--input", source, "--out", out, *further])

        local = ["--model", given.model]
        listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        label(pairs, "--judge", f"openai:listener@http://127.0.0.1:{listener.server_port}/v1")
        listener.shutdown()
        # The last words of a judge's probe, where there is one, are no question about a pair.
        questions = [text for text in Listener.asked if "Answer A:" in text]
        if len(questions) != 2 * len(pairs):
            raise SystemExit(f"error: {len(questions)} questions about {len(pairs)} pairs; two each were expected")
        rows = [{"prompt": question, "completion": letter} for question in questions for letter in "AB"]
        all_rows, one_pair = write(folder / "score.jsonl", rows), write(folder / "score-one.jsonl", rows[:4])

        ratios = []
        for _ in range(given.rounds):
            labelling = label(pairs, *local) - label(pairs[:1], *local)
            scoring = timed([given.solon, "score", *local, "--input", all_rows])
            scoring -= timed([given.solon, "score", *local, "--input", one_pair])
            ratios.append(labelling / scoring)
            print(f"{len(pairs)} pairs: label {labelling:.1f} s, score {scoring:.1f} s", flush=True)
        print(f"labelling takes {statistics.median(ratios):.2f} x the time of scoring the same questions (median)")

        rates = {}
        for servers in (1, 2):
            started = [
                subprocess.Popen(
                    [given.solon, "serve", *local, "--port", "0", "--name", "judge", "--threads", "1", "--quiet"],
                    stdout=subprocess.PIPE, text=True,
                )
                for _ in range(servers)
            ]  # fmt: skip
            try:
                addresses = ",".join(server.stdout.readline().strip() for server in started)
                judge = ["--judge", f"openai:judge@{addresses}", "--concurrency", str(8 * servers)]
                label(every[-1:], *judge)
                times = []
                for turn in range(given.rounds):
                    times.append(label(every[turn * given.rows : (turn + 1) * given.rows], *judge))
                    print(f"{servers} servers: {given.rows} pairs in {times[-1]:.1f} s", flush=True)
                rates[servers] = given.rows / statistics.median(times)
            finally:
                for server in started:
                    server.terminate()
                    server.wait()
        print(f"two servers are {rates[2] / rates[1]:.2f} x as fast as one")


if __name__ == "__main__":
    main()
