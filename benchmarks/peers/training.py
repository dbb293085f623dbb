"""Peers that train: steps of bare PyTorch, and TRL's SFT, DPO and reward trainers, on the processor."""

import random
import tempfile
import time

import datasets
import peft
import torch
import transformers
import trl

import inputs

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def causal(model, precision):
    """The model: weights in f32, or in bf16 where `precision` is "bf16"."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return transformers.AutoModelForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation="sdpa")


def step(model, method, precision, batch, length, steps, threads):
    """Tokens per second over `steps` steps after one that warms up. All tokens are in the loss.

    `precision` is "f32", "autocast" (f32 weights) or "bf16" (bf16 weights; a LoRA adapter on them is f32, and computed
    under autocast).
    """
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    net = causal(model, precision).train()
    if method == "lora":
        net = peft.get_peft_model(net, peft.LoraConfig(r=16, lora_alpha=32, target_modules=PROJECTIONS, task_type="CAUSAL_LM"))
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    autocast = precision == "autocast" or (precision == "bf16" and method == "lora")
    for number in range(steps + 1):
        if number == 1:
            start = time.monotonic()
        ids = torch.randint(0, net.config.vocab_size, (batch, length))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = net(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {"tokens_per_s": steps * batch * length / (time.monotonic() - start)}


def settings(batch, precision, folder):
    """What all of TRL's trainers are given.

    Activations are kept: TRL would else compute them twice. Rows come in the order of `grouped`. Tried on 8 rows on one
    thread, autocast, in seconds of processor time at batch 8 and 4, training alone: SFT 27 and 18, DPO 56 and 40,
    reward 25 and 20. Batch 2 gave SFT 24, DPO 41 and reward 23 (on a busier machine, where SFT at 4 took 25). TRL's
    loss of SFT scores every position where there is no Triton, padding and prompt too; no setting changes that.
    Not tried: packing, which TRL supports with FlashAttention alone, and torch.compile.
    """
    return dict(
        output_dir=folder, per_device_train_batch_size=batch, num_train_epochs=1, use_cpu=True, bf16=precision == "autocast",
        gradient_checkpointing=False, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        dataloader_pin_memory=False, max_length=None, train_sampling_strategy="sequential",
    )  # fmt: skip


def grouped(rows, batch, tokens):
    """Rows of like length in one batch, batches in random order: the least padding a trainer can have."""
    rows = sorted(rows, key=tokens)
    batches = [rows[at : at + batch] for at in range(0, len(rows), batch)]
    random.Random(1).shuffle(batches)
    return datasets.Dataset.from_list([row for batch in batches for row in batch])


def tokenizer_of(model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    return tokenizer, lambda messages: len(inputs.chat(tokenizer, messages))


def sft(model, data, batch, precision, threads):
    """Seconds of TRL's SFTTrainer for one epoch. The loss is on the answer, as Solon's."""
    torch.set_num_threads(threads)
    tokenizer, tokens = tokenizer_of(model)
    rows = [
        {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in inputs.read(data, "conversations")
    ]
    rows = grouped(rows, batch, lambda row: tokens(row["prompt"] + row["completion"]))
    with tempfile.TemporaryDirectory() as folder:
        trainer = trl.SFTTrainer(
            causal(model, precision), trl.SFTConfig(**settings(batch, precision, folder)), train_dataset=rows,
            processing_class=tokenizer,
        )  # fmt: skip
        return {"seconds": trainer.train().metrics["train_runtime"]}


def preferences(data, batch, tokens):
    """Pairs as TRL's conversations, so that it sets the chat template."""
    rows = [
        {"prompt": inputs.asked(row)} | {side: [inputs.assistant(row[side])] for side in ("chosen", "rejected")}
        for row in inputs.read(data, "pairs")
    ]
    return grouped(rows, batch, lambda row: max(tokens(row["prompt"] + row[side]) for side in ("chosen", "rejected")))


class Dpo(trl.DPOTrainer):
    """Notes how long the reference's log-probs took: TRL computes them when the trainer is made."""

    reference_seconds = 0.0

    def _precompute_ref_logps(self, *args, **kwargs):
        start = time.monotonic()
        made = super()._precompute_ref_logps(*args, **kwargs)
        self.reference_seconds += time.monotonic() - start
        return made


def dpo(model, data, batch, precision, threads, precompute=True):
    """Seconds of TRL's DPOTrainer for one epoch, the reference's log-probs included.

    They are computed beforehand, which needs no second model in memory. A reference computed at each step took the same
    processor time (77 and 74 s for 8 pairs at batch 8, all of the process) and 0.7 GB more.
    """
    torch.set_num_threads(threads)
    tokenizer, tokens = tokenizer_of(model)
    with tempfile.TemporaryDirectory() as folder:
        args = trl.DPOConfig(**settings(batch, precision, folder), precompute_ref_log_probs=precompute)
        rows = preferences(data, batch, tokens)
        trainer = Dpo(causal(model, precision), args=args, train_dataset=rows, processing_class=tokenizer)
        return {"seconds": trainer.train().metrics["train_runtime"] + trainer.reference_seconds}


def reward(model, data, batch, precision, threads):
    """Seconds of TRL's RewardTrainer for one epoch."""
    torch.set_num_threads(threads)
    tokenizer, tokens = tokenizer_of(model)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    net = transformers.AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=1, dtype=dtype, attn_implementation="sdpa"
    )
    with tempfile.TemporaryDirectory() as folder:
        args = trl.RewardConfig(**settings(batch, precision, folder))
        rows = preferences(data, batch, tokens)
        trainer = trl.RewardTrainer(net, args=args, train_dataset=rows, processing_class=tokenizer)
        return {"seconds": trainer.train().metrics["train_runtime"]}
