"""Holds reward models to transformers and peft: the same scores for the same conversations, in both directions.

Run: python check_reward.py --solon target/release/solon --model SmolLM2-135M-Instruct.Q4_1.gguf
     (torch, transformers and peft installed; CPU is enough)

A reward model is trained for two steps: every weight (`--method full`), and a LoRA adapter, alone and with `--merge`.

1. A saved folder loads with AutoModelForSequenceClassification and AutoTokenizer. Token ids of a conversation, and the
   scores of all conversations, each alone and in one padded batch, are those of `solon score`.
2. The adapter loads with peft on the base model, head included, and gives the same scores.
3. A folder that transformers saves with a random head gets the same scores from `solon score`, also where a conversation ends
   with the padding token, which transformers then does not read.
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


TEMPLATE = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}ENDING{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def save_base(model, folder):
    """A GGUF file as a folder of transformers, which does not save what it has widened from blocks as it is."""
    read = transformers.AutoModelForCausalLM.from_pretrained(model.parent, gguf_file=model.name, dtype=torch.float32)
    config = transformers.AutoConfig.from_pretrained(model.parent, gguf_file=model.name)
    plain = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)


def ids_of(tokenizer, prompt, completion):
    """Ids of a conversation up to the last that is no padding, where its score is read, and how many of them are the prompt's."""
    chat = [{"role": "user", "content": prompt}]
    start = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template([*chat, {"role": "assistant", "content": completion}], return_dict=True)["input_ids"]
    while whole[-1] == tokenizer.pad_token_id:
        whole.pop()
    return whole, len(start)


def scores(model, tokenizer):
    """Scores of the conversations, each alone and all in one padded batch."""
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": p}, {"role": "assistant", "content": c}], tokenize=False)
        for p, c in CONVERSATIONS
    ]
    batch = lambda texts: tokenizer(texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    alone = [model(**batch([text])).logits[0, 0].item() for text in texts]
    return alone, model(**batch(texts)).logits[:, 0].tolist()


def compare(name, rows, model, tokenizer):
    """Checks a model of transformers or peft against what `solon score` printed."""
    different = 0
    for conversation, row in zip(CONVERSATIONS, rows, strict=True):
        ids, start = ids_of(tokenizer, *conversation)
        # With this model's template the encoding of the whole begins with the prompt's.
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
        padding = tokenizer.pad_token_id
        adapted = load(folder / "base", num_labels=1, pad_token_id=padding, dtype=torch.float32)
        adapted = peft.PeftModel.from_pretrained(adapted, folder / "adapter")
        compare("adapter in peft", rows, adapted, tokenizer)
        del adapted

        torch.manual_seed(7)
        random = load(folder / "base", num_labels=1, pad_token_id=padding, dtype=torch.float32)
        random.score.weight.data = torch.randn_like(random.score.weight) / random.config.hidden_size**0.5
        for name, ending in (("random", "<|im_end|>\n"), ("random, conversations end with padding", "<|im_end|>")):
            random.save_pretrained(folder / "random")
            tokenizer.chat_template = TEMPLATE.replace("ENDING", ending)
            tokenizer.save_pretrained(folder / "random")
            compare(f"a folder of transformers in Solon, {name}", solon(program, *score, folder / "random"), random, tokenizer)
    finish()


if __name__ == "__main__":
    main()
