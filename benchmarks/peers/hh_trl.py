"""The part of hh.py that needs PyTorch: the pairs, the adapters to start from, and TRL's trainers."""

import gzip
import hashlib
import json
import pathlib
import re
import tempfile

import datasets
import peft
import torch
import transformers
import trl

from training import PROJECTIONS, causal

TRAIN, TEST, LONGEST = 500, 312, 256


def conversation(text):
    """The turns of hh-rlhf's text; None where they do not alternate, or one is empty."""
    parts = re.split(r"\n\n(Human|Assistant):", text)
    roles, texts = parts[1::2], [text.strip() for text in parts[2::2]]
    if parts[0] or not roles or roles != ["Human", "Assistant"] * (len(roles) // 2) or not all(texts):
        return None
    names = {"Human": "user", "Assistant": "assistant"}
    return [{"role": names[role], "content": text} for role, text in zip(roles, texts)]


def pairs(source, model, folder, threads):
    """Writes train.jsonl and test.jsonl, and the test's two sides as prompts with completions.

    Which pairs: those of a shared prompt whose sides both fit 256 tokens, so that no program cuts any; in the order of
    their prompts' hashes, so that pairs of one prompt lie together, and none is in both files.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokens = lambda messages: len(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"])
    rows = []
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            chosen, rejected = conversation(row["chosen"]), conversation(row["rejected"])
            if not chosen or not rejected or chosen[:-1] != rejected[:-1] or chosen == rejected:
                continue
            if max(tokens(chosen), tokens(rejected)) <= LONGEST:
                rows.append({"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]})
    rows.sort(key=lambda row: hashlib.sha256(json.dumps(row["prompt"]).encode()).hexdigest())
    cut = TRAIN
    while rows[cut]["prompt"] == rows[cut - 1]["prompt"]:
        cut += 1
    train, test = rows[:TRAIN], rows[cut : cut + TEST]
    sides = {f"test-{s}": [{"prompt": row["prompt"], "completion": row[s]} for row in test] for s in ("chosen", "rejected")}
    for name, made in {"train": train, "test": test, **sides}.items():
        named = [{"id": f"pair-{number}", **row} for number, row in enumerate(made)]
        (pathlib.Path(folder) / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    both = [tokens(row["prompt"] + row[side]) for row in train for side in ("chosen", "rejected")]
    return {"fitting": len(rows), "train": len(train), "test": len(test), "tokens_of_both_sides": sum(both)}


def base(method, folder):
    """The model in f32; for a reward model with a score head, whose values the adapter brings."""
    model = pathlib.Path(folder) / "model"
    if method == "dpo":
        return causal(model, "f32")
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=1, dtype=torch.float32, attn_implementation="sdpa"
    )


def start(method, seed, folder, **_):
    """Saves the adapter that both programs start from: peft's first values, and transformers' of the score head."""
    torch.manual_seed(seed)
    kind = "SEQ_CLS" if method == "reward" else "CAUSAL_LM"
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules=PROJECTIONS, task_type=kind)
    peft.get_peft_model(base(method, folder), config).save_pretrained(pathlib.Path(folder) / f"{method}-{seed}" / "start")


def trainer(method, adapter, rows, folder, batch, together, rate, seed, trainable):
    """TRL's trainer of the adapter, `together` pairs at a time: batches in the order of `rows`, linear decay, no warm-up, AdamW's defaults, norm 1."""
    model = peft.PeftModel.from_pretrained(base(method, folder), adapter, is_trainable=trainable)
    tokenizer = transformers.AutoTokenizer.from_pretrained(pathlib.Path(folder) / "model")
    settings = dict(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=together, gradient_accumulation_steps=batch // together,
        per_device_eval_batch_size=together, num_train_epochs=1, learning_rate=rate, lr_scheduler_type="linear", warmup_steps=0,
        weight_decay=0.0, max_grad_norm=1.0, max_length=LONGEST, seed=seed, use_cpu=True, bf16=False,
        gradient_checkpointing=False, report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True,
        dataloader_pin_memory=False, train_sampling_strategy="sequential",
    )  # fmt: skip
    make, config = (trl.RewardTrainer, trl.RewardConfig) if method == "reward" else (trl.DPOTrainer, trl.DPOConfig)
    data = datasets.Dataset.from_list([{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows])
    return make(model, args=config(**settings), train_dataset=data, eval_dataset=data, processing_class=tokenizer)


def product(x, weight):
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


class OneDnn(torch.autograd.Function):
    """x · weightᵀ in f32 by oneDNN."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        return product(x, weight)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        to_input = product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_input, None
        return to_input, product(gradient.flatten(0, -2).t(), x.flatten(0, -2).t())


def set_up(threads, onednn):
    """`onednn` has oneDNN multiply. PyTorch has MKL do it in f32, which takes AVX2 on AMD's processors."""
    torch.set_num_threads(threads)
    if onednn:
        linear = torch.nn.functional.linear
        torch.nn.functional.linear = lambda x, weight, bias=None: (
            OneDnn.apply(x, weight) if bias is None else linear(x, weight, bias)
        )


def read(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def train(method, seed, folder, batch, together, rate, onednn, threads):
    """One epoch over the pairs, in the order in which Solon took them."""
    set_up(threads, onednn)
    place = pathlib.Path(folder) / f"{method}-{seed}"
    rows = read(pathlib.Path(folder) / "train.jsonl")
    order = json.loads((place / "solon-training.json").read_text())["order"]
    made = trainer(method, place / "start", [rows[at] for at in order], folder, batch, together, rate, seed, True)
    seconds = made.train().metrics["train_runtime"]
    losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    made.model.save_pretrained(place / "trl")
    return {"seconds": seconds, "losses": losses}


def accuracy(method, seed, folder, batch, together, rate, onednn, threads):
    """TRL's own measure of a reward model: the share of test pairs whose chosen answer has the greater reward."""
    set_up(threads, onednn)
    rows = read(pathlib.Path(folder) / "test.jsonl")
    place = pathlib.Path(folder) / f"{method}-{seed}"
    told = trainer(method, place / "trl", rows, folder, batch, together, rate, seed, False).evaluate()
    return {"accuracy": told["eval_accuracy"], "told": told}


def log_probs(folder, adapter, onednn, threads):
    """Of every test pair's two answers the log-prob, all that the template writes behind the prompt, as TRL counts it. TRL's own
    evaluation would take the trained adapter for its reference."""
    set_up(threads, onednn)
    model = base("dpo", folder)
    if adapter:
        model = peft.PeftModel.from_pretrained(model, adapter)
    tokenizer = transformers.AutoTokenizer.from_pretrained(pathlib.Path(folder) / "model")
    sides = {"chosen": [], "rejected": []}
    with torch.no_grad():
        for row in read(pathlib.Path(folder) / "test.jsonl"):
            prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
            for side, found in sides.items():
                ids = tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=True)["input_ids"]
                assert ids[: len(prompt)] == prompt
                answer = torch.tensor(ids[len(prompt) :])
                logits = model(torch.tensor([ids[:-1]]), logits_to_keep=len(answer)).logits[0]
                found.append(logits.log_softmax(-1).gather(1, answer[:, None]).sum().item())
    return sides
