#!/usr/bin/env python3
"""Drives `solon serve` with the clients that people have: OpenAI's own, lm-evaluation-harness, Inspect AI.

    python benchmarks/parity/check_serve.py --solon target/release/solon --model FOLDER --mmlu DIR

Needs the packages openai, inspect_ai, 'lm_eval[api]' and transformers; no torch. FOLDER is a Hugging Face folder, such as
`runs/quickstart/model`. Passes where the clients work and say what `solon generate` and `solon eval` say: the same greedy
answers streamed and whole, and of every MMLU item the same choice with log-probs within 1e-4 nats, all in f32.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from check_lm_eval import local_tasks, ours

QUESTIONS = ["What is the capital of France?", "Write one sentence about the sea.", "Is ice colder than steam?"]
failed = False


def check(name, good, figures=""):
    global failed
    failed |= not good
    print(f"{'ok' if good else 'FAIL':4}  {name}{': ' if figures else ''}{figures}", flush=True)


def generated(given, scratch):
    """Greedy answers of `solon generate`."""
    prompts = scratch / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in QUESTIONS))
    words = "--temperature 0 --max-new-tokens 40 --precision f32".split()
    made = subprocess.run(
        [given.solon, "generate", "--model", given.model, "--prompts", prompts, *words],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [json.loads(line) for line in made.stdout.splitlines()]


def openai_client(url, model, expected):
    import openai

    client = openai.OpenAI(base_url=url, api_key="any")
    check("openai: models", [served.id for served in client.models.list()] == [model])
    same = streamed = probed = 0
    for text, row in zip(QUESTIONS, expected, strict=True):
        asked = dict(model=model, messages=[{"role": "user", "content": text}], temperature=0, max_tokens=40)
        answer = client.chat.completions.create(**asked, logprobs=True, top_logprobs=5)
        same += answer.choices[0].message.content == row["completion"]
        logprobs = [token.logprob for token in answer.choices[0].logprobs.content]
        # The end of turn is not part of the text.
        probed += all(abs(a - b) < 1e-5 for a, b in zip(logprobs, row["logprobs"]))
        stream = client.chat.completions.create(**asked, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        streamed += "".join(pieces) == row["completion"]
    check("openai: chat", same == probed == len(QUESTIONS), f"{same} answers and {probed} lists of log-probs as `generate`")
    check("openai: streaming", streamed == len(QUESTIONS), f"{streamed} of {len(QUESTIONS)} answers the same")
    for name, error, asked in [
        ("an unknown model", openai.NotFoundError, dict(model="gone", messages=[{"role": "user", "content": "a"}])),
        ("no messages", openai.BadRequestError, dict(model=model, messages=[])),
        ("a long prompt", openai.BadRequestError, dict(model=model, messages=[{"role": "user", "content": "a b " * 9000}])),
    ]:
        try:
            client.chat.completions.create(**asked)
            check(f"openai: {name}", False, "accepted")
        except error as refused:
            check(f"openai: {name}", True, f"HTTP {refused.status_code}, {refused.body['message'][:60]}")


def harness(given, url, model, scratch):
    from lm_eval import simple_evaluate

    for name, (config, flags, shots) in local_tasks(given, scratch).items():
        start = time.monotonic()
        asked = f"model={model},base_url={url}/completions,tokenizer={given.model},num_concurrent=4,max_retries=1"
        asked += ",tokenized_requests=True,tokenizer_backend=huggingface"
        result = simple_evaluate(
            model="local-completions", model_args=asked, tasks=[config], num_fewshot=shots, bootstrap_iters=0,
            limit=given.limit, batch_size=8,
        )  # fmt: skip
        seconds = time.monotonic() - start
        flags = [*flags, "--limit", given.limit] if given.limit else flags
        our_seconds, rows, _ = ours(given, flags, scratch)
        same = apart = 0
        samples = {sample["doc_id"]: sample for sample in result["samples"][config["task"]]}
        for place, row in enumerate(rows):
            log_probs = [float(response[0]) for response in samples[place]["filtered_resps"]]
            same += max(range(4), key=log_probs.__getitem__) == row["choice"]
            apart = max(apart, *(abs(a - b) for a, b in zip(log_probs, row["loglikelihoods"], strict=True)))
        figures = f"{same} of {len(rows)} choices the same, log-probs at most {apart:.1e} apart; {our_seconds:.1f} s of `solon eval`, {seconds:.1f} s by the server"
        check(f"lm_eval local-completions: {name}", same == len(rows) and apart < 1e-4, figures)


def inspect(url, model, scratch):
    os.environ["SERVED_BASE_URL"], os.environ["SERVED_API_KEY"] = url, "any"
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate

    samples = [Sample(input=QUESTIONS[0], target="Paris"), Sample(input="Name a colour.", target="no colour is this")]
    task = Task(dataset=samples, solver=generate(), scorer=includes())
    (log,) = eval(
        task, model=f"openai-api/served/{model}", log_dir=str(scratch / "logs"), display="none", temperature=0, max_tokens=40
    )
    answers = [sample.output.completion for sample in log.samples] if log.samples else []
    score = log.results.scores[0].metrics["accuracy"].value if log.results else None
    check("inspect_ai", log.status == "success" and score == 0.5, f"{log.status}, accuracy {score}, {answers[:1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solon", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--mmlu", type=pathlib.Path, required=True)
    parser.add_argument("--subjects", nargs="+", default=["anatomy"])
    parser.add_argument("--shots", nargs="+", type=int, default=[0, 5])
    parser.add_argument("--limit", type=int, help="MMLU questions of each subject")
    given = parser.parse_args()
    given.truthfulqa, given.chat_template, given.continuation, given.precision, given.questions = None, False, False, "f32", 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        expected = generated(given, scratch)
        server = subprocess.Popen(
            [given.solon, "serve", "--model", given.model, "--port", "0", "--precision", "f32", "--name", "served", "--quiet"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            url = server.stdout.readline().strip()
            openai_client(url, "served", expected)
            inspect(url, "served", scratch)
            harness(given, url, "served", scratch)
        finally:
            server.terminate()
            check("a stop", server.wait(timeout=60) == 0)
    sys.exit(failed)


if __name__ == "__main__":
    main()
