"""Holds adapters with settings for single modules to peft: its own in Solon, and Solon's in it.

Run: python check_adapters.py --solon target/release/solon --model SmolLM2-135M-Instruct.Q4_1.gguf
     (torch, transformers and peft installed; CPU is enough)

Each adapter has random values.

1. `solon score --adapter` gives the log-probs of peft for what peft saved.
2. What `solon sft` saves after a step from it, at a learning rate that changes nothing, gives peft the same log-probs.
Exits with 1 where a check fails.
"""

import argparse
import pathlib
import tempfile

import peft
import torch
import transformers

from check_export import ROUNDING, largest, log_probs
from check_reward import save_base
from check_transformers import SCORE_ROWS, Text
from report import check, finish, solon, write_rows

ROWS = [row for row in SCORE_ROWS if 0 < len(row[1]) < 200][:6]
CASES = {
    "plain": dict(r=4, lora_alpha=8, target_modules="all-linear"),
    "ranks and alphas": dict(
        r=4,
        lora_alpha=8,
        target_modules="all-linear",
        rank_pattern={r"self_attn\.(q|k)_proj": 2, "layers.3.mlp.down_proj": 7},
        alpha_pattern={r"^model\.layers\.1\d\..*": 3},
    ),
    "rank-stabilised": dict(
        r=3, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "down_proj"], rank_pattern={"down_proj": 5}
    ),
    "some layers": dict(
        r=2, lora_alpha=4, target_modules=["v_proj", "o_proj"], exclude_modules=["v_proj"], layers_to_transform=[0, 29]
    ),
    "an expression": dict(r=2, lora_alpha=4, target_modules=r".*\.\d*[02468]\.(self_attn\.k_proj|mlp\.up_proj)"),
}


def main():
    """Runs every check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solon", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a GGUF file of SmolLM2")
    arguments = parser.parse_args()
    program, model = arguments.solon.resolve(), arguments.model
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, peft {peft.__version__}, {model.name}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        save_base(model, folder / "base")
        inputs = write_rows(folder / "rows.jsonl", [{"prompt": p, "completion": c} for p, c in ROWS])
        text = Text(model)
        score = ("score", "--model", model, "--input", inputs, "--precision", "f32")
        plain = [row["logprobs"] for row in solon(program, *score)]
        for number, (name, settings) in enumerate(CASES.items()):
            config = peft.LoraConfig(task_type="CAUSAL_LM", **settings)
            fresh = transformers.AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
            made = peft.get_peft_model(fresh, config)
            generator = torch.Generator().manual_seed(number)
            for key, parameter in made.named_parameters():
                if "lora_" in key:
                    width = parameter.shape[1] ** -0.5 if "lora_A" in key else 0.05
                    parameter.data = width * torch.randn(parameter.shape, generator=generator)
            first, second = folder / f"{number}-peft", folder / f"{number}-solon"
            made.save_pretrained(first)
            del made, fresh
            train = ("sft", "--model", model, "--adapter", first, "--data", inputs, "--learning-rate", "1e-12")
            solon(program, *train, "--precision", "f32", "--batch", "6", "--out", second)
            rows = solon(program, *score, "--adapter", first)
            ours = [row["logprobs"] for row in rows]
            moved = largest(ours, plain)
            for what, at in (("peft's in Solon", first), ("Solon's in peft", second)):
                loaded = transformers.AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
                loaded = peft.PeftModel.from_pretrained(loaded, at).eval()
                theirs = [
                    log_probs(loaded, text.prompt(prompt), row["completion_token_ids"])
                    for (prompt, _), row in zip(ROWS, rows, strict=True)
                ]
                apart = largest(ours, theirs)
                detail = f"at most {apart:.1e} nats apart (bound {ROUNDING}); the adapter moves them by up to {moved:.2f}"
                check(f"{name}, {what}", apart <= ROUNDING < moved, detail)
                del loaded
    finish()


if __name__ == "__main__":
    main()
