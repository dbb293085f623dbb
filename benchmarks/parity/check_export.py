"""Holds what a finished run exports to transformers and peft: the model folder and the delivered role's adapter.

Run: python check_export.py --solon target/release/solon --base SmolLM2-135M-Instruct.Q4_1.gguf --run runs/quickstart
     (as check_transformers.py, and peft)

1. `model/` loads with AutoModelForCausalLM and AutoTokenizer; the token ids of a chat are Solon's, and so are the
   log-probs of every completion token in f32.
2. `checkpoints/ROLE/` loads with peft on the base model and gives the same log-probs as the merged folder, but for the
   rounding of the folder's weights.
Exits with 1 where a check fails.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from peft import PeftModel

from check_transformers import SCORE_ROWS

TOLERANCE = 1e-3  # nats for a token
ROUNDING = 5e-3  # nats for a token: products of the adapter in another order


def solon_scores(solon, model, rows):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows))
        command = [solon, "score", "--model", model, "--input", path, "--precision", "f32"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def log_probs(model, prompt, completion):
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits[0].float()
    chosen = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    return chosen.gather(1, torch.tensor(completion)[:, None])[:, 0].tolist()


def largest(a, b):
    return max((abs(x - y) for xs, ys in zip(a, b, strict=True) for x, y in zip(xs, ys, strict=True)), default=0.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solon", required=True)
    parser.add_argument("--base", required=True, type=pathlib.Path)
    parser.add_argument("--run", required=True, type=pathlib.Path)
    args = parser.parse_args()

    role = json.loads((args.run / "summary.json").read_text())["delivered"]
    folder = args.run / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    merged = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    base = transformers.AutoModelForCausalLM.from_pretrained(args.base.parent, gguf_file=args.base.name, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, args.run / "checkpoints" / role).eval()

    scored = solon_scores(args.solon, folder, SCORE_ROWS)
    failed, theirs, peft = False, [], []
    for (prompt, completion), row in zip(SCORE_ROWS, scored, strict=True):
        chat = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        start = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = tokenizer(completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        if ids != row["completion_token_ids"]:
            failed = True
            print(f"token ids differ for {completion[:40]!r}: {ids[:8]} and {row['completion_token_ids'][:8]}")
        theirs.append(log_probs(merged, start, row["completion_token_ids"]))
        peft.append(log_probs(adapted, start, row["completion_token_ids"]))
    ours = [row["logprobs"] for row in scored]
    tokens = sum(map(len, ours))
    for name, other, bound in [("transformers on model/", theirs, TOLERANCE), (f"peft on the {role} adapter", peft, ROUNDING)]:
        distance = largest(ours, other)
        verdict = "ok" if distance <= bound else "FAILED"
        failed |= distance > bound
        print(f"{verdict}: {name}: largest difference {distance:.2e} nats over {tokens} tokens (bound {bound})")
    sys.exit(failed)


if __name__ == "__main__":
    main()
