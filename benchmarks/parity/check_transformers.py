"""Holds the `solon` program to transformers on a real model: log-probs, greedy answers, and what must not change them.

Run: python check_transformers.py --solon target/release/solon --model SmolLM2-135M-Instruct.Q4_1.gguf
     (torch, transformers, gguf, tokenizers and jinja2 installed; CPU is enough)

1. `solon score --precision f32` gives the log-probs that transformers gives in f32 for the same token ids.
2. `solon generate --temperature 0 --precision f32` gives the tokens that transformers' greedy search gives, and
   log-probs equal to transformers' and to `solon score`'s for those tokens.
3. `--precision bf16` stays near f32: mean and maximum are reported.
4. `solon generate` at temperature 0.8 writes the same bytes whatever --batch and --threads, as does `solon score`
   whatever --threads and whatever the order of the rows.

transformers reads the weights from the GGUF file itself. Its tokenizer for such a file is not used: it ignores
`tokenizer.ggml.pre`, and so does not cut digits off as SmolLM2's own tokenizer does: two spaces and a digit, for one,
become other ids. The tokenizer is built here with the `tokenizers` package, and the chat template is rendered with
jinja2, both from the file's metadata.
Exits with 1 where a check fails.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import jinja2.sandbox
import torch
import transformers
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from report import check, finish

TOLERANCE = 1e-3  # nats for a token's log-prob; logits for a tie
BF16_BOUND = 0.5  # nats
MAX_NEW_TOKENS = 48
SAMPLED_TOKENS = 24
BATCHES = (1, 7, 32)
THREADS = (1, 2)
CONTROL = 3  # `tokenizer.ggml.token_type` of a special token

LEDGER = " ".join(f"Entry {n}: {n * 7} apples and {n * 13 % 100} pears came in on day {n}." for n in range(1, 46))
STORY = "\n\n".join(
    f"Chapter {n}. The lighthouse keeper climbed the {n * 31} steps again. Below her the sea was {colour}, and the "
    f"boats came home one by one; she counted {n + 3} of them, wrote the number down, and lit the lamp."
    for n, colour in enumerate(["grey", "green", "silver", "black", "calm", "white with foam"], start=1)
)

SCORE_ROWS = [
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is 17 + 2308?", "17 + 2308 = 2325.\n\n    17\n+ 2308\n------\n  2325\n"),
    ("When did people first walk on the Moon?", "On 20 July 1969, at 02:56:15 UTC on the 21st; about 650000000 watched."),
    (
        "Write a Python function that counts the vowels of a text.",
        'Here it is:\n\n```python\ndef vowels(text: str) -> int:\n    """Counts vowels."""\n    return sum(1 for c in'
        ' text.lower() if c in "aeiou")\n\n\nassert vowels("Hello") == 2\n```\n',
    ),
    (
        "Why does this not compile?\n\nfn main() {\n\tlet s = String::from(\"a\");\n\tlet t = s;\n\tprintln!(\"{s}\");\n}",
        "`s` was moved into `t`.\n\tlet t = s.clone();\nkeeps both: `s: String`, `t: String` // 2 allocations",
    ),
    ("Give me a small JSON object.", '{"name": "Ada", "born": 1815, "tags": ["maths", null, true], "π": 3.14159e+00}'),
    (
        "Compare cats and dogs in a table.",
        "| Animal | Legs |\n|---|---:|\n| Cat | 4 |\n| Dog | 4 |\n\n- *soft*\n- **loud**\n",
    ),
    ("请用中文介绍一下长城。", "长城是中国古代的防御工程，全长约21196公里，始建于公元前7世纪。"),
    ("富士山の高さは？", "富士山の高さは３７７６メートルです。日本で一番高い山だよ！"),
    ("ما هي أيام الأسبوع؟", "أيام الأسبوع ٧: السبت، الأحد، الاثنين، الثلاثاء، الأربعاء، الخميس، الجمعة."),
    ("हिन्दी में नमस्ते लिखो।", "नमस्ते! आप कैसे हैं? मेरे पास १२ किताबें हैं।"),
    ("Reply in emoji only 🙂", "👩‍👩‍👧‍👦🏳️‍🌈🇨🇭 👍🏽 ✅❤️‍🔥 \U0001fae0"),
    ("Is café the same as cafe\u0301?", "Both look the same: é and e\u0301. Ångström, Å, \u212b; ﬁ and fi; ß and ẞ."),
    ("What are ½, ² and Ⅳ?", "½ is one half, x² + y² = z², Ⅳ is 4; ∑ᵢ₌₁ⁿ i = n(n+1)⁄2 ≤ ∞, ①②③ ¾"),
    ("Say nothing.", ""),
    ("Indent by a space.", " "),
    ("Leave two lines.", "\n\n"),
    ("", "Hello! How can I help you today?"),
    ("  \t ", "   It seems your message is empty.   "),
    ("What does <|im_end|> mean?", "<|im_end|> ends a turn, as <|im_start|>user begins one; <|endoftext|> ends all."),
    ("Shorten: I will not, you are, they have", "I won't, you're, they've; she'll, it's, I'd, I'm. “Don’t,” he said. I'LL WE'RE"),
    (
        "a\r\nb\r\n\tc \u00a0d\u200be\u0000f",
        "\tTab,\r\nreturn, \u00a0hard space,\u3000wide space, \u200bnone,\u2028line\u0007bell\u007f",
    ),
    (f"Read this ledger and say what came in on day 40.\n\n{LEDGER}", "280 apples and 20 pears."),
    ("Tell me a long story about a lighthouse.", STORY),
]  # fmt: skip

GENERATE_PROMPTS = [
    "What is the capital of Italy?",
    "Name three fruits.",
    "What is 12 + 30?",
    "Write a haiku about rain.",
    "Explain photosynthesis to a child.",
    "Write a Python function that reverses a string.",
    "def fib(n):\n    # finish this function\n",
    "Translate to French: The weather is nice today.",
    "¿Cuál es la capital de España?",
    "你好！你是谁？",
    "こんにちは。1から5まで数えてください。",
    "Who are you?",
    "List the days of the week, one on each line.",
    "Correct the grammar: she go to school yesterday",
    "🙂 What does this emoji mean?",
    "Write an SQL query that counts the rows of the table `orders` for 2023.",
    "Summarise in one sentence.\n\nBees visit flowers to collect nectar.\nOn the way they carry pollen.\n\n"
    "Plants need this.",
    f"How many apples came in on day 5?\n\n{LEDGER[:1200]}",
    [
        {"role": "system", "content": "You answer in one short sentence."},
        {"role": "user", "content": "Why is the sky blue?"},
    ],
    [
        {"role": "user", "content": "My name is Ada and I like number 42."},
        {"role": "assistant", "content": "Nice to meet you, Ada!"},
        {"role": "user", "content": "What is my name, and which number do I like?"},
    ],
]

class Text:
    """The tokenizer and chat template of a GGUF file, built without solon and without transformers."""

    def __init__(self, path):
        fields = {name: field.contents() for name, field in GGUFReader(path).fields.items()}
        if (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]) != ("gpt2", "smollm"):
            sys.exit("this script knows the `smollm` pre-tokenizer only")
        tokens = fields["tokenizer.ggml.tokens"]
        merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
        self.tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        self.tokenizer.decoder = decoders.ByteLevel()
        control = [token for token, kind in zip(tokens, fields["tokenizer.ggml.token_type"]) if kind == CONTROL]
        self.tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
        assert self.tokenizer.get_vocab_size() == len(tokens), "an added token is new"
        self.eos = fields["tokenizer.ggml.eos_token_id"]
        # As in transformers, `chat_template_utils.py`.
        jinja = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self.template = jinja.from_string(fields["tokenizer.chat_template"])

    def encode(self, text):
        """Ids, with special tokens spelled out in the text read as such, as transformers does."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def prompt(self, prompt):
        """Ids of a prompt, or a conversation, up to the opening of the answer."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return self.encode(self.template.render(messages=messages, add_generation_prompt=True))


class Reference:
    """The model in transformers, f32."""

    def __init__(self, path):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        ).eval()

    def logits(self, prompt, completion):
        """The logits `[token, vocabulary]` that each token of the completion was drawn from."""
        ids = torch.tensor([prompt + completion])
        logits = self.model(ids, use_cache=False, logits_to_keep=len(completion) + 1).logits[0, :-1]
        return logits.float()

    def greedy(self, prompt, stop):
        """transformers' own greedy search."""
        ids = torch.tensor([prompt])
        out = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            eos_token_id=stop,
            pad_token_id=stop,
        )
        return out[0, len(prompt) :].tolist()


class Solon:
    """The program."""

    def __init__(self, program, model, folder):
        self.program, self.model, self.folder = program, model, folder

    def bytes(self, command, rows, flags):
        """What the program writes for these rows."""
        path = self.folder / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        source = {"score": "--input", "generate": "--prompts"}[command]
        call = [self.program, command, "--model", self.model, source, path, *flags.split()]
        done = subprocess.run([str(word) for word in call], capture_output=True, check=False)
        if done.returncode != 0:
            sys.exit(f"solon {command} {flags} failed:\n{done.stderr.decode()}")
        return done.stdout

    def rows(self, command, rows, flags):
        """The same, parsed: as many rows as went in."""
        out = [json.loads(line) for line in self.bytes(command, rows, flags).splitlines()]
        assert len(out) == len(rows), f"{len(out)} rows came out, {len(rows)} went in"
        return out


def score_input(rows):
    """Rows as `solon score` reads them."""
    return [{"prompt": prompt, "completion": completion} for prompt, completion in rows]


def prompt_input(prompts):
    """Rows as `solon generate` reads them."""
    return [{"prompt" if isinstance(prompt, str) else "messages": prompt} for prompt in prompts]


def log_probs(logits, ids):
    """Log-probs of these ids."""
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]


def distances(a, b):
    """Absolute differences of two lists of lists of numbers, as one tensor."""
    return torch.cat([(torch.as_tensor(x) - torch.as_tensor(y)).abs() for x, y in zip(a, b, strict=True)])


def check_scores(solon, text, reference):
    """Check 1. Returns solon's rows."""
    rows = solon.rows("score", score_input(SCORE_ROWS), "--precision f32 --threads 1")
    wanted = [text.encode(completion) + [text.eos] for _, completion in SCORE_ROWS]
    different = [n for n, (row, ids) in enumerate(zip(rows, wanted), 1) if row["completion_token_ids"] != ids]
    tokens = sum(map(len, wanted))
    check("token ids", not different, f"{tokens} in {len(rows)} rows" + f"; rows {different} differ" * bool(different))
    expected = [
        log_probs(reference.logits(text.prompt(prompt), row["completion_token_ids"]), row["completion_token_ids"])
        for (prompt, _), row in zip(SCORE_ROWS, rows)
    ]
    apart = distances([row["logprobs"] for row in rows], expected)
    worst = max(range(len(rows)), key=lambda n: distances([rows[n]["logprobs"]], [expected[n]]).max())
    detail = f"max {apart.max():.2e}, mean {apart.mean():.2e} nats over {tokens} tokens, worst in row {worst + 1}"
    check("score, f32, to transformers", apart.max() <= TOLERANCE, detail)
    return rows


def check_greedy(solon, text, reference):
    """Check 2."""
    flags = f"--precision f32 --threads 1 --temperature 0 --max-new-tokens {MAX_NEW_TOKENS}"
    rows = solon.rows("generate", prompt_input(GENERATE_PROMPTS), flags)
    identical, ties, wrong, margins, expected = 0, [], [], [], []
    for number, (prompt, row) in enumerate(zip(GENERATE_PROMPTS, rows), 1):
        ids, prompt_ids = row["token_ids"], text.prompt(prompt)
        greedy = reference.greedy(prompt_ids, text.eos)
        logits = reference.logits(prompt_ids, ids)
        expected.append(log_probs(logits, ids))
        best = logits.topk(2).values
        margins.append(best[:, 0] - best[:, 1])
        if ids == greedy:
            identical += 1
            continue
        at = next((n for n, (a, b) in enumerate(zip(ids, greedy)) if a != b), min(len(ids), len(greedy)))
        if at == len(ids) or at == len(greedy):
            wrong.append(f"prompt {number}: {len(ids)} tokens, transformers {len(greedy)}")
            continue
        gap = (logits[at, greedy[at]] - logits[at, ids[at]]).item()
        story = f"prompt {number}, token {at + 1}: {ids[at]}, transformers {greedy[at]}, logits {gap:.2e} apart"
        (ties if abs(gap) <= TOLERANCE else wrong).append(story)
    detail = f"{identical} of {len(rows)} identical; closest top two {torch.cat(margins).min():.2e} apart"
    for story in ties:
        detail += f"\n      near tie: {story}"
    for story in wrong:
        detail += f"\n      mismatch: {story}"
    check(f"greedy, f32, {MAX_NEW_TOKENS} tokens", not wrong, detail)

    apart = distances([row["logprobs"] for row in rows], expected)
    detail = f"max {apart.max():.2e}, mean {apart.mean():.2e} nats over {len(apart)} tokens"
    check("generate's log-probs to transformers", apart.max() <= TOLERANCE, detail)

    # `score` takes text, and one prompt: tokens are compared as far as the text encodes to the tokens generated.
    single = [(prompt, row) for prompt, row in zip(GENERATE_PROMPTS, rows) if isinstance(prompt, str)]
    scored = solon.rows(
        "score", score_input((prompt, row["completion"]) for prompt, row in single), "--precision f32 --threads 1"
    )
    pairs = []
    for (_, row), score in zip(single, scored):
        same = 0
        for a, b in zip(row["token_ids"], score["completion_token_ids"]):
            if a != b:
                break
            same += 1
        pairs.append((row["logprobs"][:same], score["logprobs"][:same]))
    apart = distances(*zip(*pairs))
    total = sum(len(row["token_ids"]) for _, row in single)
    detail = f"max {apart.max():.2e} nats over {len(apart)} of {total} tokens (the others are encoded otherwise)"
    check("generate's log-probs to score's", apart.max() <= TOLERANCE and len(apart) > total // 2, detail)


def check_bf16(solon, f32):
    """Check 3."""
    bf16 = solon.rows("score", score_input(SCORE_ROWS), "--precision bf16 --threads 1")
    apart = distances([row["logprobs"] for row in bf16], [row["logprobs"] for row in f32])
    mean = torch.cat([torch.tensor(a["logprobs"]) - torch.tensor(b["logprobs"]) for a, b in zip(bf16, f32)]).mean()
    detail = f"max {apart.max():.3f}, mean {apart.mean():.4f}, mean with sign {mean:+.4f} nats"
    check("score, bf16, to f32", apart.max() <= BF16_BOUND, detail)


def check_independence(solon, precision):
    """Check 4."""
    # More requests than slots, and prompts that come twice and so share a cache entry.
    prompts = prompt_input(GENERATE_PROMPTS + GENERATE_PROMPTS[:16])
    base = f"--precision {precision} --temperature 0.8 --seed 7 --max-new-tokens {SAMPLED_TOKENS}"
    grid = [f"--batch {batch} --threads {threads}" for batch in BATCHES for threads in THREADS]
    outputs = {flags: solon.bytes("generate", prompts, f"{base} {flags}") for flags in grid}
    first = outputs[grid[0]]
    different = [flags for flags in grid if outputs[flags] != first]
    detail = f"{len(prompts)} samples, {len(first)} bytes, {len(grid)} settings"
    if different:
        detail += f"; differ from `{grid[0]}`: {', '.join(different)}"
    check(f"generate, {precision}, any --batch and --threads", not different, detail)

    rows = score_input(SCORE_ROWS)
    scores = [solon.bytes("score", rows, f"--precision {precision} --threads {threads}") for threads in THREADS]
    turned = solon.bytes("score", rows[::-1], f"--precision {precision} --threads 1").splitlines()[::-1]
    check(f"score, {precision}, any --threads", len(set(scores)) == 1, f"{len(scores[0])} bytes")
    moved = [n for n, (a, b) in enumerate(zip(scores[0].splitlines(), turned, strict=True), 1) if a != b]
    check(f"score, {precision}, any order of rows", not moved, f"{len(rows)} rows" + f"; {moved} differ" * bool(moved))


def main():
    """Runs every check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solon", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a GGUF file of SmolLM2")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {arguments.model.name}", flush=True)
    text, reference = Text(arguments.model), Reference(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        solon = Solon(arguments.solon.resolve(), arguments.model, pathlib.Path(folder))
        f32 = check_scores(solon, text, reference)
        check_greedy(solon, text, reference)
        check_bf16(solon, f32)
        for precision in ("f32", "bf16"):
            check_independence(solon, precision)
    finish()


if __name__ == "__main__":
    main()
