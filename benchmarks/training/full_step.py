#!/usr/bin/env python3
"""Full fine-tuning of a SmolLM2-135M-shaped model: Solon beside a bare PyTorch loop, tokens per second.

    python full_step.py --solon target/release/solon --model runs/quickstart/model

Both do the same steps on the same token ids: batches of 4 conversations of 256 tokens or one or two more, cross-entropy
over the answers (all but some thirty tokens), AdamW, f32 (and bf16 for Solon, autocast for PyTorch). Solon is a process, so its time for a step is the difference
between a run of many steps and a run of few. The programs take turns; medians of --rounds. Weights are a Hugging Face
folder. Needs torch, transformers and tokenizers.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers

BATCH, LENGTH, FEW, MANY = 4, 256, 2, 8

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--solon", required=True, type=pathlib.Path)
parser.add_argument("--model", required=True, type=pathlib.Path)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=3)
args = parser.parse_args()

torch.set_num_threads(args.threads)
tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
draw = random.Random(1)
WORDS = "time year people way day thing man world life hand part child eye woman place work week case point home".split()


def conversation():
    """A conversation of LENGTH tokens or a few more: its messages, its ids, and how many of them are not trained on."""
    words = []
    while True:
        text = " ".join(words)
        messages = [{"role": "user", "content": f"Go on, {draw.random():.6f}."}, {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
        if len(ids) >= LENGTH:
            prompt = tokenizer.apply_chat_template(messages[:1], tokenize=True, return_dict=False, add_generation_prompt=True)
            return messages, ids, len(prompt)
        words.append(draw.choice(WORDS))


data = [conversation() for _ in range(BATCH * MANY)]
TOKENS = sum(len(ids) for _, ids, _ in data[BATCH * FEW :])


def solon(precision):
    """Tokens per second over MANY - FEW steps."""
    seconds = {}
    for steps in (FEW, MANY):
        with tempfile.TemporaryDirectory() as folder:
            rows = pathlib.Path(folder) / "rows.jsonl"
            rows.write_text("".join(json.dumps({"messages": m}) + "\n" for m, _, _ in data[: BATCH * steps]))
            command = [args.solon, "sft", "--method", "full", "--model", args.model, "--data", rows,
                       "--out", f"{folder}/out", "--batch", BATCH, "--precision", precision, "--threads", args.threads]
            start = time.monotonic()
            subprocess.run([str(part) for part in command], check=True, capture_output=True)
            seconds[steps] = time.monotonic() - start
    return TOKENS / (seconds[MANY] - seconds[FEW])


def pytorch(autocast):
    """Tokens per second over MANY - FEW steps, after FEW steps of warming up."""
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    for step in range(MANY):
        if step == FEW:
            start = time.monotonic()
        rows = data[BATCH * step : BATCH * (step + 1)]
        longest = max(len(ids) for _, ids, _ in rows)
        padded = torch.tensor([ids + [0] * (longest - len(ids)) for _, ids, _ in rows])
        labels = torch.tensor([[-100] * prompt + ids[prompt:] + [-100] * (longest - len(ids)) for _, ids, prompt in rows])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(input_ids=padded, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return TOKENS / (time.monotonic() - start)


programs = {
    "Solon f32": lambda: solon("f32"),
    "Solon bf16": lambda: solon("bf16"),
    "PyTorch f32": lambda: pytorch(False),
    "PyTorch autocast": lambda: pytorch(True),
}
rates = {name: [] for name in programs}
for _ in range(args.rounds):
    for name, program in programs.items():
        rates[name].append(program())
        print(f"{name:18} {rates[name][-1]:7.1f} tokens/s", file=sys.stderr)
print(f"torch {torch.__version__}, transformers {transformers.__version__}, {args.threads} threads, median of {args.rounds}")
base = statistics.median(rates["PyTorch f32"])
for name, values in rates.items():
    rate = statistics.median(values)
    print(f"{name:18} {rate:7.1f} tokens/s  {rate / base:5.2f} × PyTorch f32")
