"""What every program is given: the model's folder and the ragged rows, made once under target/peers."""

import json
import pathlib
import random
import shutil

import torch
import transformers

ROWS = 32
PROMPTS = pathlib.Path(__file__).resolve().parents[2] / "prompts" / "helpful.jsonl"

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def model(gguf, folder, threads):
    """A Hugging Face folder of the GGUF's weights in f32, with tokenizer and chat template."""
    torch.set_num_threads(threads)
    gguf, folder = pathlib.Path(gguf), pathlib.Path(folder)
    read = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # What is read from a GGUF file counts as quantised, and cannot be saved: the values move to a plain model.
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    plain = type(read)(type(read.config).from_dict(settings)).float()
    plain.load_state_dict(read.state_dict())
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    assert tokenizer.chat_template, f"{gguf} has no chat template"
    save(plain, tokenizer, folder)


def larger(small, folder, threads):
    """A folder of Qwen2.5-0.5B's shape: random bf16 weights, and the small model's tokenizer."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(small)
    config = transformers.Qwen2Config(
        hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, intermediate_size=4864,
        vocab_size=151936, tie_word_embeddings=True, max_position_embeddings=32768, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    save(transformers.Qwen2ForCausalLM(config).to(torch.bfloat16), tokenizer, pathlib.Path(folder))


def save(model, tokenizer, folder):
    """Saves beside the folder and moves: a folder that is there is whole."""
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(folder)


def rows(model, folder, threads):
    """Ragged rows of the repository's own prompts strung together, the same on every machine.

    Conversations of 40 to 400 tokens with the chat template, log-normal, 160 in the mean; pairs with prompts of 100 to
    250 tokens and two answers of 20 to 120, as HH-RLHF's.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    draw = random.Random(1)
    texts = [json.loads(line)["prompt"] for line in PROMPTS.read_text().splitlines()]
    draw.shuffle(texts)
    ids = tokenizer(" ".join(texts), add_special_tokens=False)["input_ids"]
    frame = len(chat(tokenizer, [user(""), assistant("")]))

    def length(median, spread, least, most):
        while not least <= (tokens := round(draw.lognormvariate(0, spread) * median)) <= most:
            pass
        return tokens

    def text(tokens):
        start = draw.randrange(len(ids) - tokens)
        return tokenizer.decode(ids[start : start + tokens]).strip()

    conversations, pairs = [], []
    for _ in range(ROWS):
        tokens = length(145, 0.55, 40, 400) - frame
        asked = max(2, round(tokens * draw.uniform(0.2, 0.5)))
        conversations.append({"messages": [user(text(asked)), assistant(text(tokens - asked))]})
        prompt = text(length(112, 0.2, 100, 250) - frame)
        pairs.append({"prompt": prompt, "chosen": text(length(38, 0.5, 20, 120)), "rejected": text(length(38, 0.5, 20, 120))})
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in [("conversations", conversations), ("pairs", pairs)]:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))


def count(model, folder, threads):
    """Real tokens: those of every conversation, and of both sides of every pair, with the chat template, unpadded."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    conversations, pairs = read(folder, "conversations"), read(folder, "pairs")
    sides = [[*asked(row), assistant(row[side])] for row in pairs for side in ("chosen", "rejected")]
    return {
        "conversations": sum(len(chat(tokenizer, row["messages"])) for row in conversations),
        "pairs": sum(len(chat(tokenizer, side)) for side in sides),
    }


def read(folder, name):
    return [json.loads(line) for line in (pathlib.Path(folder) / f"{name}.jsonl").read_text().splitlines()]


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def asked(pair):
    """The messages both answers of a pair are to."""
    return [user(pair["prompt"])] if isinstance(pair["prompt"], str) else pair["prompt"]


def chat(tokenizer, messages):
    """Token ids of a conversation."""
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
