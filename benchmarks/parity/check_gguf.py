"""Holds what `solon export --gguf` writes to llama.cpp: the same greedy tokens, the same log-probs.

Run: python check_gguf.py --solon target/release/solon --model SmolLM2-135M-Instruct.Q4_1.gguf
     (xllamacpp, gguf, numpy and jinja2 installed; CPU is enough)

A LoRA adapter with random values is merged in, so that merging is checked too. For each type of file:

1. Each tensor's bytes are those that ggml's own quantiser makes of the tensor in the F32 file.
2. llama.cpp answers conversations greedily, with the tokenizer and the chat template of the file, as Solon does with the
   same file in f32. Where they part, llama.cpp's two log-probs are shown, and for the float types only a tie passes.
3. llama.cpp's log-probs of given answers are Solon's for the same file. What differs is llama.cpp's arithmetic: it rounds
   the inputs of products to the weights' type, or to 8 bits.
4. The distance to the model before it was rounded is reported: the quantiser's error. llama.cpp's own is to be no larger
   than it by more than its arithmetic explains.
5. The adapter alone (`--adapter-only`), which llama.cpp puts on the model itself, gives Solon's log-probs with it.
6. The model with RoPE scaled in several ways, as an F32 file: llama.cpp's log-probs are Solon's for the folder, and Solon's for
   the file are the same numbers.

Exits with 1 where a check fails.
"""

import argparse
import ctypes
import importlib.metadata
import json
import pathlib
import tempfile

import jinja2.sandbox
import numpy as np
import xllamacpp
from gguf import GGMLQuantizationType, GGUFReader

from report import check, finish, solon, write_rows

# Type: the largest mean distance (nats) of llama.cpp's log-probs to Solon's, from the same file; how close two
# tokens are that tie (nats; None: any).
TYPES = {
    "f32": (1e-2, 0.02),
    "f16": (2e-2, 0.05),
    "bf16": (5e-2, 0.1),
    "q8_0": (0.15, None),
    "q4_0": (0.15, None),
    "q4_k_m": (0.15, None),
}
NEW_TOKENS = 20
LISTED = 2000  # log-probs that llama.cpp lists for a token
ANSWERS = [
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is 17 + 2308?", "17 + 2308 = 2325."),
    ("Write a Python function that counts vowels.", "def vowels(text):\n    return sum(c in 'aeiou' for c in text)\n"),
    ("Where is the library?", "Où est la bibliothèque ? À gauche, s'il vous plaît."),
    ("Tell me a story.", "The keeper climbed the 31 steps again. Below her the sea was grey."),
]
PROMPTS = [
    "What is the capital of Italy?",
    "Name three fruits.",
    "Explain photosynthesis to a child.",
    "Write a Python function that reverses a string.",
    "Who are you?",
    "List the days of the week, one on each line.",
]

# `rope_scaling` of SmolLM2's heads of 64. Lists that are equal are what rope_freqs.weight holds.
DIVISORS = [1.0 + 0.1 * place for place in range(32)]
LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 2048, "short_factor": DIVISORS}
SCALINGS = {
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048},
    "yarn, attention_factor": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "attention_factor": 0.9,
    },
    "yarn, mscale": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024, "mscale": 1.0, "mscale_all_dim": 0.8,
    },
    "longrope": {**LONGROPE, "long_factor": [2.0 * divisor for divisor in DIVISORS], "attention_factor": 1.1},
    "divisors": {**LONGROPE, "long_factor": DIVISORS, "attention_factor": 1.0},
}  # fmt: skip

def random_adapter(model, folder, rank=4):
    """A PEFT adapter with random values on all matrices of a model."""
    fields = {name: field.contents() for name, field in GGUFReader(model).fields.items()}
    hidden, inner = fields["llama.embedding_length"], fields["llama.feed_forward_length"]
    keys = hidden // fields["llama.attention.head_count"] * fields["llama.attention.head_count_kv"]
    shapes = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (keys, hidden), "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }  # fmt: skip
    random = np.random.default_rng(7)
    header, data = {}, b""
    for layer in range(fields["llama.block_count"]):
        for module, (rows, columns) in shapes.items():
            for part, shape, width in (("A", (rank, columns), columns**-0.5), ("B", (rows, rank), 0.05)):
                values = random.normal(0, width, shape).astype("<f4").tobytes()
                name = f"base_model.model.model.layers.{layer}.{module}.lora_{part}.weight"
                header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
                data += values
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank}
    modules = [module.split(".")[1] for module in shapes]
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": modules}))
    return folder


def check_blocks(name, path, exact):
    """Check 1."""
    package = pathlib.Path(xllamacpp.__file__).parent
    quantize = ctypes.CDLL(str(next(package.glob("xllamacpp*.so")))).ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    values = {tensor.name: tensor.data for tensor in GGUFReader(exact).tensors}
    different, kinds = [], {}
    for tensor in GGUFReader(path).tensors:
        rows = np.ascontiguousarray(values[tensor.name], np.float32).reshape(-1, int(tensor.shape[0]))
        blocks = np.zeros(tensor.n_bytes, np.uint8)
        if tensor.tensor_type == GGMLQuantizationType.F32:
            blocks = rows.view(np.uint8).reshape(-1)
        else:
            kind = int(tensor.tensor_type)
            quantize(kind, rows.ctypes.data, blocks.ctypes.data, 0, *rows.shape, None)
        kinds[tensor.tensor_type.name] = kinds.get(tensor.tensor_type.name, 0) + 1
        if not np.array_equal(blocks, np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1)):
            different.append(tensor.name)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    check(f"{name}, bytes of ggml's quantiser", not different, f"{listed}; {len(different)} differ {different[:3]}")


class LlamaCpp:
    """A GGUF file in llama.cpp."""

    def __init__(self, path, adapter=None):
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.n_parallel, parameters.n_gpu_layers = 1024, 1, 0
        parameters.warmup, parameters.use_jinja, parameters.verbosity = False, True, 0
        # As Solon keeps keys and values; llama.cpp's own default is F16.
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        if adapter is not None:
            parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
        self.server = xllamacpp.Server(parameters)
        fields = {name: field.contents() for name, field in GGUFReader(path).fields.items()}
        jinja = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self.template = jinja.from_string(fields["tokenizer.chat_template"])

    def greedy(self, prompt):
        """The tokens of an answer, with what was listed for each; the end is left out."""
        request = {"messages": [{"role": "user", "content": prompt}], "temperature": 0.0, "max_tokens": NEW_TOKENS}
        answer = self.server.handle_chat_completions({**request, "logprobs": True, "top_logprobs": 20})
        tokens = answer["choices"][0]["logprobs"]["content"]
        return [token["id"] for token in tokens], [token["top_logprobs"] for token in tokens]

    def listed(self, prompt):
        """The likeliest next tokens."""
        # Nothing is told of a token that ends the answer, so none may; what is listed does not depend on that. Nor of
        # bytes that are no character yet.
        request = {"prompt": prompt, "n_probs": LISTED, "n_predict": 1, "ignore_eos": True}
        answer = self.server.handle_completions({**request, "temperature": 0.0, "cache_prompt": True})
        found = answer["choices"][0]["logprobs"]
        return found["content"][0]["top_logprobs"] if found else []

    def log_probs(self, prompt, ids):
        """Log-probs of given tokens; NaN of one that is not listed."""
        text = self.template.render(messages=[{"role": "user", "content": prompt}], add_generation_prompt=True)
        found = []
        for at, wanted in enumerate(ids):
            listed = self.listed([text, *ids[:at]] if at else text)
            found.append(next((token["logprob"] for token in listed if token["id"] == wanted), float("nan")))
        return found


def distance(a, b):
    """Mean and largest distance of log-probs, and how many were compared."""
    apart = np.abs(np.concatenate(a) - np.concatenate(b))
    apart = apart[~np.isnan(apart)]
    return apart.mean(), apart.max(), apart.size


def check_greedy(name, llama, rows, stops, tie):
    """Check 2."""
    same, told, wrong = 0, [], 0
    for number, (prompt, row) in enumerate(zip(PROMPTS, rows, strict=True), 1):
        ids = [token for token in row["token_ids"] if token not in stops]
        theirs, listed = llama.greedy(prompt)
        theirs = [token for token in theirs if token not in stops]
        if ids == theirs:
            same += 1
            continue
        at = next((n for n, (a, b) in enumerate(zip(ids, theirs)) if a != b), min(len(ids), len(theirs)))
        ranks = {token["id"]: token["logprob"] for token in listed[at]} if at < len(listed) else {}
        gap = ranks[theirs[at]] - ranks[ids[at]] if at < len(ids) and at < len(theirs) and ids[at] in ranks else np.inf
        wrong += tie is not None and gap > tie
        told.append(f"\n      prompt {number} parts at token {at + 1}, where two are {gap:.3f} nats apart")
    check(f"{name}, greedy", not wrong, f"{same} of {len(rows)} answers identical" + "".join(told))


def check_adapter(program, model, adapter, folder, exact):
    """Check 5."""
    for what, name in (((), "base"), (("--adapter", adapter, "--adapter-only"), "adapter")):
        path = folder / f"{name}-alone.gguf"
        solon(program, "export", "--model", model, *what, "--gguf", "f32", "--out", path)
    llama = LlamaCpp(folder / "base-alone.gguf", folder / "adapter-alone.gguf")
    theirs = [llama.log_probs(p, row["completion_token_ids"]) for (p, _), row in zip(ANSWERS, exact, strict=True)]
    mean, most, count = distance(theirs, [row["logprobs"] for row in exact])
    bound = TYPES["f32"][0]
    detail = f"mean {mean:.1e}, max {most:.1e} nats over {count} tokens (bound of the mean {bound})"
    check("adapter beside the f32 model", mean <= bound, detail)


def check_scalings(program, model, folder, answers, plain):
    """Check 6."""
    rows = write_rows(folder / "one.jsonl", [{"prompt": "Why?", "completion": "Because."}])
    # The shortest way to a folder: a step of training that changes next to nothing.
    scaled = folder / "scaled"
    train = ("sft", "--model", model, "--data", rows, "--rank", "1", "--learning-rate", "1e-12", "--merge")
    solon(program, *train, "--out", scaled)
    settings = json.loads((scaled / "config.json").read_text())
    score = ("score", "--input", answers, "--precision", "f32", "--model")
    bound = TYPES["f32"][0]
    for name, scaling in SCALINGS.items():
        (scaled / "config.json").write_text(json.dumps({**settings, "rope_scaling": scaling}))
        path = folder / "scaled.gguf"
        solon(program, "export", "--model", scaled, "--gguf", "f32", "--out", path)
        exact, read = solon(program, *score, scaled), solon(program, *score, path)
        ours = [row["logprobs"] for row in exact]
        llama = LlamaCpp(path)
        theirs = [llama.log_probs(p, row["completion_token_ids"]) for (p, _), row in zip(ANSWERS, exact, strict=True)]
        mean, most, count = distance(theirs, ours)
        moved, again = distance(ours, plain)[0], distance([row["logprobs"] for row in read], ours)[1]
        detail = f"mean {mean:.1e}, max {most:.1e} nats over {count} tokens (bound of the mean {bound}); the scaling moves "
        detail += f"them by {moved:.3f} nats, the file by at most {again:.1e}"
        check(f"{name} in llama.cpp", mean <= bound and moved > 10 * bound and again < 1e-3, detail)
        path.unlink()
        del llama


def main():
    """Runs every check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solon", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a GGUF file of SmolLM2")
    parser.add_argument("--types", default=",".join(TYPES), help="types to check")
    arguments = parser.parse_args()
    program, model = arguments.solon.resolve(), arguments.model
    print(f"xllamacpp {importlib.metadata.version('xllamacpp')}, {model.name}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        adapter = random_adapter(model, folder / "adapter")
        prompts = write_rows(folder / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
        answers = write_rows(folder / "answers.jsonl", [{"prompt": p, "completion": c} for p, c in ANSWERS])
        score = ("score", "--input", answers, "--precision", "f32", "--model")
        exact = solon(program, *score, model, "--adapter", adapter)
        exact_log_probs = [row["logprobs"] for row in exact]
        plain = [row["logprobs"] for row in solon(program, *score, model)]
        print(f"      the adapter moves log-probs by {distance(exact_log_probs, plain)[0]:.3f} nats", flush=True)
        unrounded = folder / "unrounded.gguf"
        solon(program, "export", "--model", model, "--adapter", adapter, "--gguf", "f32", "--out", unrounded)
        for name in arguments.types.split(","):
            bound, tie = TYPES[name]
            path = folder / f"{name}.gguf"
            solon(program, "export", "--model", model, "--adapter", adapter, "--gguf", name, "--out", path)
            check_blocks(name, path, unrounded)
            llama = LlamaCpp(path)
            generate = ("generate", "--precision", "f32", "--temperature", "0", "--max-new-tokens", NEW_TOKENS)
            greedy = solon(program, *generate, "--prompts", prompts, "--model", path)
            stops = {exact[0]["completion_token_ids"][-1]}
            check_greedy(name, llama, greedy, stops, tie)

            rows = solon(program, *score, path)
            ids = [row["completion_token_ids"] for row in rows]
            assert ids == [row["completion_token_ids"] for row in exact], "the file's tokenizer gives other ids"
            ours = [row["logprobs"] for row in rows]
            theirs = [llama.log_probs(prompt, tokens) for (prompt, _), tokens in zip(ANSWERS, ids, strict=True)]
            mean, most, count = distance(theirs, ours)
            total = sum(map(len, ids))
            detail = f"mean {mean:.1e}, max {most:.1e} nats over {count} of {total} tokens (bound of the mean {bound})"
            check(f"{name}, log-probs to Solon's for the file", mean <= bound and count > 0.9 * total, detail)
            error, whole = distance(ours, exact_log_probs)[0], distance(theirs, exact_log_probs)[0]
            detail = f"mean {whole:.4f} nats, of which {error:.4f} is the rounding of the weights; {path.stat().st_size / 1e6:.0f} MB"
            check(f"{name}, log-probs to the model before rounding", whole <= error + bound, detail)
            path.unlink()
            del llama
        check_adapter(program, model, adapter, folder, exact)
        check_scalings(program, model, folder, answers, plain)
    finish()


if __name__ == "__main__":
    main()
