"""Holds reward models to transformers and peft: the same scores for the same conversations, in both directions.

Run: python check_reward.py --solon target/release/solon --model SmolLM2-135M-Instruct.Q4_1.gguf
     (torch, transformers and peft installed; CPU is enough)

A reward model is trained for two steps: every weight (`--method full`), and a LoRA adapter, alone and with `--merge`.

1. A saved folder loads with AutoModelForSequenceClassification and AutoTokenizer. Token ids of a conversation, and the
   scores of all conversations, each alone and in one padded batch, are those of `solon score`.
2. The adapter loads with peft on the base model, head included, and gives the same scores.
3. A folder that transformers saves with a random head gets the same scores from `solon score`.
Exits with 1 where a check fails.
"""

import argparse
import pathlib
import tempfile

import peft
import torch
import transformers

from report import check, finish, solon, write_rows

TOLERANCE = 1e-3  # of a reward, f32
PAIRS = [
    ("What is the capital of France?", "The capital of France is Paris.", "no idea"),
    ("Name three fruits.", "Apples, pears and plums.", "Fruits fruits fruits."),
    ("What is 12 + 30?", "12 + 30 = 42.", "It is 7."),
    ("Who wrote Faust?", "Johann Wolfgang von Goethe wrote it.", "A man."),
]
CONVERSATIONS = [
    ("What is the capital of Italy?", "Rome."),
    ("Where is the library?", "Où est la bibliothèque ? À gauche, s'il vous plaît."),
    ("Write a Python function that counts vowels.", "def vowels(text):\n    return sum(c in 'aeiou' for c in text)\n"),
    ("Say nothing.", ""),
    ("What does <|im_end|> mean?", "It ends a turn."),
]

def save_base(model, folder):
    """A GGUF file as a folder of transformers, which does not save what it has widened from blocks as it is."""
    read = transformers.AutoModelForCausalLM.from_pretrained(model.parent, gguf_file=model.name, dtype=torch.float32)
    config = transformers.AutoConfig.from_pretrained(model.parent, gguf_file=model.name)
    plain = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)


def ids_of(tokenizer, prompt, completion):
    """Ids of a conversation up to the end of its last turn, and how many of them are the prompt's."""
    chat = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    start = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer = tokenizer(completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return start + answer, len(start)


def scores(model, tokenizer):
    """Scores of the conversations, each alone, as the folder is, and all in one batch.

    transformers reads a score at the last token that is no padding. A batch therefore needs a padding token that ends no
    conversation: where the tokenizer's own does, another special one is taken.
    """
    sequences = [ids_of(tokenizer, *conversation)[0] for conversation in CONVERSATIONS]
    alone = [model(input_ids=torch.tensor([ids])).logits[0, 0].item() for ids in sequences]
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.pad_token = next(token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token)
    model.config.pad_token_id = tokenizer.pad_token_id
    batch = tokenizer.pad({"input_ids": sequences}, padding_side="right", return_tensors="pt")
    return alone, model(**batch).logits[:, 0].tolist()


def compare(name, rows, model, tokenizer):
    """Checks a model of transformers or peft against what `solon score` printed."""
    different = 0
    for conversation, row in zip(CONVERSATIONS, rows, strict=True):
        ids, start = ids_of(tokenizer, *conversation)
        different += ids[start:] != row["completion_token_ids"]
    check(f"{name}, token ids", different == 0, f"{different} of {len(rows)} conversations differ")
    ours = [row["reward"] for row in rows]
    for how, theirs in zip(("alone", "in one batch"), scores(model.eval(), tokenizer)):
        apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        spread = max(ours) - min(ours)
        check(f"{name}, {how}", apart <= TOLERANCE, f"scores at most {apart:.1e} apart, over a range of {spread:.2f}")


def main():
    """Runs every check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solon", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a GGUF file")
    arguments = parser.parse_args()
    program, model = arguments.solon.resolve(), arguments.model
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    print(f"{versions}, {model.name}", flush=True)
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        pairs = [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS]
        data = write_rows(folder / "pairs.jsonl", pairs)
        inputs = write_rows(folder / "rows.jsonl", [{"prompt": p, "completion": c} for p, c in CONVERSATIONS])
        score = ("score", "--input", inputs, "--precision", "f32", "--model")
        train = ("reward", "--model", model, "--data", data, "--batch", "2", "--precision", "f32")
        train = (*train, "--set", "hold_out_every=0")
        for out, more in (("full", ("--method", "full")), ("merged", ("--merge",)), ("adapter", ())):
            solon(program, *train, "--learning-rate", "1e-4", "--out", folder / out, *more)

        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "full")
        for out in ("full", "merged"):
            rows = solon(program, *score, folder / out)
            whole = load(folder / out, dtype=torch.float32)
            compare(f"{out} folder in transformers", rows, whole, transformers.AutoTokenizer.from_pretrained(folder / out))
            del whole

        # The base model as a folder of transformers, without a head of its own.
        save_base(model, folder / "base")
        rows = solon(program, *score, model, "--adapter", folder / "adapter")
        adapted = load(folder / "base", num_labels=1, pad_token_id=None, dtype=torch.float32)
        adapted = peft.PeftModel.from_pretrained(adapted, folder / "adapter")
        compare("adapter in peft", rows, adapted, tokenizer)
        del adapted

        torch.manual_seed(7)
        random = load(folder / "base", num_labels=1, pad_token_id=None, dtype=torch.float32)
        random.score.weight.data = torch.randn_like(random.score.weight) / random.config.hidden_size**0.5
        random.save_pretrained(folder / "random")
        tokenizer.save_pretrained(folder / "random")
        compare("a folder of transformers in Solon", solon(program, *score, folder / "random"), random, tokenizer)
    finish()


if __name__ == "__main__":
    main()
