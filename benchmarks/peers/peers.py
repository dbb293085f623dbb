#!/usr/bin/env python3
"""Solon beside its peers: the same work, on the same machine, in alternation.

    python peers.py all --solon target/release/solon --out results.json

Every measurement runs in a process of its own, whose peak memory is the process's; the programs take turns, and
--rounds of them are told by median, minimum and maximum. README.md beside this file says what each command measures
and what is timed. Working files go to target/peers. Needs the packages of requirements.txt.
"""

import argparse
import datetime
import importlib
import importlib.metadata
import importlib.util
import json
import pathlib
import platform
import subprocess
import sys
import tempfile

from measure import TARGET, Program, alternate, child, solon, table, worker

PACKAGES = {
    "gemm": ["torch"],
    "step": ["torch", "transformers", "gguf", "peft"],
    "sft": ["torch", "transformers", "gguf", "trl", "datasets", "accelerate", "peft"],
    "generate": ["torch", "transformers", "gguf", "xllamacpp"],
    "critique": ["torch", "transformers", "gguf"],
}
PACKAGES |= {"dpo": PACKAGES["sft"], "reward": PACKAGES["sft"], "growth": PACKAGES["critique"]}
FEATURES = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"]

# Of full steps, a LoRA adapter's and TRL's trainers. "bf16" keeps weights and optimizer state in bf16, as Solon does
# not: AdamW then loses small updates. It is often the faster of the two.
TORCH = {"f32": "f32", "autocast": "bf16 autocast", "bf16": "bf16 weights"}

# Candle takes memory for every result and gives it back: the C library is told to keep it, in one place (work is done
# on a thread of Candle's pool), and to use huge pages. Tried on two steps, on a busy machine, in seconds of processor
# time: 80 to 84 as it comes, 69 with the first two, 76 with the last, 51 with all. mimalloc took 84, and 57 told to keep
# memory, 0.8 GB more of it.
CANDLE = [
    "MALLOC_MMAP_THRESHOLD_=4294967296",
    "MALLOC_TRIM_THRESHOLD_=17179869184",
    "MALLOC_ARENA_MAX=1",
    "GLIBC_TUNABLES=glibc.malloc.hugetlb=1",
]


def gemm(args):
    def ours():
        found, peak = solon([args.solon, "bench", "gemm", "--repeats", 1], args.threads)
        # Where a product is told both ways, PyTorch's is held to the one that packs its inputs, as PyTorch must.
        products = sorted(found["products"], key=lambda product: product["with_packing"])
        return {f"{p['m']}×{p['n']}×{p['k']} {p['precision']}": p["gflops"] for p in products}, peak

    programs = [
        Program("Solon", ours),
        Program("PyTorch", lambda: worker("gemm.pytorch", args.threads), "Solon"),
    ]
    return "gemm: x · wᵀ, m×n×k", "GFLOP/s", alternate(programs, args.rounds)


def bench(args, work, *flags):
    """`solon bench` on the model, as a program's `run`."""
    return lambda: rate(work, *solon([args.solon, "bench", *flags, "--repeats", 1], args.threads))


def rate(work, found, peak):
    return {work: found["tokens_per_s"]}, peak


def step(args):
    model = model_folder(args)
    shape = {"batch": 4, "length": 256}
    flags = ["train", "--model", model, "--batch", 4, "--length", 256]
    programs = []
    for method in ("full", "lora"):
        work = f"{method}, 4 × 256"
        adapter = ["--adapter", "lora"] if method == "lora" else []
        for precision in ("f32", "bf16"):
            programs.append(Program(f"Solon {precision}", bench(args, work, *flags, *adapter, "--precision", precision)))
        for precision, name in TORCH.items():
            settings = {"model": model, "method": method, "precision": precision, "steps": 2} | shape
            run = lambda work=work, settings=settings: rate(work, *worker("training.step", args.threads, **settings))
            programs.append(Program(f"PyTorch {name}", run, "Solon f32" if precision == "f32" else "Solon bf16"))
        if args.candle and method == "full":

            def candle(work=work):
                command = ["env", *CANDLE, args.candle, "--batch", 4, "--length", 256, "--steps", 2]
                out, peak = child(command, args.threads)
                return rate(work, json.loads(out), peak)

            programs.append(Program("Candle", candle, "Solon f32"))
    return "step: fine-tuning steps", "tokens/s", alternate(programs, args.rounds)


def trained(args, command, rows):
    """A trainer of TRL's beside Solon's command of the same name, on one of the two files of ragged rows."""
    model, data = model_folder(args), rows_folder(args)
    tokens, _ = worker("inputs.count", args.threads, model=model, folder=data)
    work = f"{command}, batch {args.batch}"

    def ours():
        with tempfile.TemporaryDirectory(dir=TARGET) as folder:
            found, peak = solon(
                [args.solon, command, "--method", "full", "--model", model, "--data", data / f"{rows}.jsonl",
                 "--out", f"{folder}/out", "--batch", args.batch, "--precision", "bf16"],
                args.threads,
            )  # fmt: skip
        return {work: tokens[rows] / found["seconds"]}, peak

    def theirs(precision):
        settings = {"model": model, "data": data, "batch": args.batch, "precision": precision}
        found, peak = worker(f"training.{command}", args.threads, **settings)
        return {work: tokens[rows] / found["seconds"]}, peak

    programs = [Program("Solon bf16", ours)]
    for precision in ("autocast", "bf16"):
        programs.append(Program(f"TRL {TORCH[precision]}", lambda precision=precision: theirs(precision), "Solon bf16"))
    title = f"{command}: one epoch, {tokens[rows]:,} real tokens in ragged rows"
    return title, "real tokens/s", alternate(programs, args.rounds)


def sft(args):
    return trained(args, "sft", "conversations")


def dpo(args):
    return trained(args, "dpo", "pairs")


def reward(args):
    return trained(args, "reward", "pairs")


def generate(args):
    model, gguf = model_folder(args), gguf_file(args)
    programs = []
    for batch in (1, 8, 32):
        work = f"batch {batch}"
        shape = {"batch": batch, "prompt_tokens": 64, "new_tokens": 64}
        flags = ["--batch", batch, "--prompt-tokens", 64, "--new-tokens", 64]

        def peer(function, work=work, **settings):
            return lambda: rate(work, *worker(f"generation.{function}", args.threads, **settings))

        programs.append(Program("Solon", bench(args, work, "generate", "--model", model, *flags)))
        programs.append(Program("transformers bf16", peer("transformers", model=model, **shape), "Solon"))
        programs.append(Program("llama.cpp, xllamacpp", peer("llama_cpp", gguf=gguf, **shape), "Solon"))
        if args.llama_batched_bench:

            def native(work=work, batch=batch):
                out, peak = child(
                    [args.llama_batched_bench, "-m", gguf, "-c", 256 * batch, "-npp", 64, "-ntg", 64, "-npl",
                     f"{batch},{batch}", "-t", args.threads, "-tb", args.threads, "--output-format", "jsonl"],
                    args.threads,
                )  # fmt: skip
                last = [json.loads(line) for line in out.splitlines() if line.startswith("{")][-1]  # the first warms up
                return {work: batch * last["tg"] / last["t"]}, peak

            programs.append(Program("llama.cpp, llama-batched-bench", native, "Solon"))
    build, _ = worker("generation.llama_cpp_build", args.threads)
    title = f"generate: 64 new tokens after prompts of 64 (xllamacpp's llama.cpp: {build})"
    return title, "new tokens/s", alternate(programs, args.rounds)


def critique(args):
    flags = ["generate", "--model", model_folder(args), "--batch", 32, "--prompt-tokens", 64]
    flags += ["--shared-tokens", 1500, "--new-tokens", 64]
    work = "batch 32"
    programs = [
        Program("Solon", bench(args, work, *flags)),
        Program("Solon --no-sharing", bench(args, work, *flags, "--no-sharing"), "Solon"),
    ]
    title = "critique: 64 new tokens after 1,500 shared and 64 own"
    return title, "new tokens/s", alternate(programs, args.rounds)


def growth(args):
    small = model_folder(args)
    large = TARGET / "model" / "qwen2.5-0.5b-shaped"
    if not large.exists():
        worker("inputs.larger", args.threads, small=small, folder=large)
    train, made = ["train", "--model", small], ["--prompt-tokens", 64, "--new-tokens", 64]
    programs = []
    # At most 8 sequences and, but for what is one sequence, 4,096 tokens in a step.
    for length in (128, 256, 512, 1024, 2048, 4096):
        batch = min(8, max(1, 4096 // length))
        work = f"train, length {length}, batch {batch}"
        programs.append(Program("Solon", bench(args, work, *train, "--length", length, "--batch", batch)))
    sizes = [2**power for power in range(7)]
    for batch in sizes:
        work = f"train, batch {batch}, length 128"
        programs.append(Program("Solon", bench(args, work, *train, "--length", 128, "--batch", batch)))
    for batch in sizes:
        work = f"generate, batch {batch}"
        programs.append(Program("Solon", bench(args, work, "generate", "--model", small, *made, "--batch", batch)))
    for name, model in [("the model", small), ("0.5B", large)]:
        work = f"train, {name}, batch 4, length 256"
        programs.append(Program("Solon", bench(args, work, "train", "--model", model, "--batch", 4, "--length", 256)))
        work = f"generate, {name}, batch 8"
        programs.append(Program("Solon", bench(args, work, "generate", "--model", model, *made, "--batch", 8)))
    return "growth: Solon by length, batch and size of the model", "tokens/s", alternate(programs, args.rounds)


def gguf_file(args):
    if args.gguf is None:
        out, _ = child([args.solon, "pull", "smollm2-135m-instruct"], args.threads)
        args.gguf = pathlib.Path(out.strip())
    return args.gguf.resolve()


def model_folder(args):
    """The GGUF as a Hugging Face folder, made the first time."""
    gguf = gguf_file(args)
    folder = TARGET / "model" / gguf.stem
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        worker("inputs.model", args.threads, gguf=gguf, folder=folder)
    return folder


def rows_folder(args):
    """The ragged rows: --data, or rows of the repository's prompts."""
    if args.data:
        for name in ("conversations", "pairs"):
            if not (args.data / f"{name}.jsonl").exists():
                sys.exit(f"{args.data} has no {name}.jsonl")
        return args.data.resolve()
    folder = TARGET / "rows"
    worker("inputs.rows", args.threads, model=model_folder(args), folder=folder)
    return folder


def machine(args):
    """What was measured, on what, and when."""
    found = {}
    if platform.system() == "Linux":
        out = subprocess.run(["lscpu"], capture_output=True, text=True, check=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
        found = dict(line.split(":", 1) for line in out.stdout.splitlines() if ":" in line)
    flags = found.get("Flags", "").split()
    version, _ = child([args.solon, "--version"], args.threads)
    return {
        "date": datetime.date.today().isoformat(),
        "processor": found.get("Model name", platform.processor()).strip(),
        "processors": int(found.get("CPU(s)", 0)),
        "features": [feature for feature in FEATURES if feature in flags],
        "threads": args.threads,
        "rounds": args.rounds,
        "solon": version.strip(),
        "packages": {
            name: importlib.metadata.version(name)
            for name in sorted({name for names in PACKAGES.values() for name in names})
            if importlib.util.find_spec(name)
        },
    }


def check_packages(commands):
    missing = sorted({p for c in commands for p in PACKAGES[c] if importlib.util.find_spec(p) is None})
    if missing:
        requirements = pathlib.Path(__file__).with_name("requirements.txt")
        sys.exit(f"missing: {', '.join(missing)}\nhint: {sys.executable} -m pip install -r {requirements}")


COMMANDS = {f.__name__: f for f in (gemm, step, sft, dpo, reward, generate, critique, growth)}


def main():
    if sys.argv[1:2] == ["worker"]:  # module.function and its settings: see `measure.worker`
        module, function = sys.argv[2].split(".")
        print(json.dumps(getattr(importlib.import_module(module), function)(**json.loads(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[*COMMANDS, "all"], help="`all` is everything but growth")
    parser.add_argument("--solon", required=True, type=pathlib.Path, help="the program")
    parser.add_argument("--gguf", type=pathlib.Path, help="the model; what `solon pull smollm2-135m-instruct` prints when left out")
    parser.add_argument("--data", type=pathlib.Path, help="folder with conversations.jsonl and pairs.jsonl")
    parser.add_argument("--batch", type=int, default=4, help="rows in a step of sft, dpo and reward")
    parser.add_argument("--candle", type=pathlib.Path, help="a program that trains with Candle, as a row of `step`")
    parser.add_argument("--llama-batched-bench", type=pathlib.Path, help="llama.cpp's, built for this machine, as rows of `generate`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, help="JSON of every figure")
    args = parser.parse_args()
    for name in ("solon", "candle", "llama_batched_bench", "gguf"):
        path = getattr(args, name)
        if path is not None and not path.is_file():
            parser.error(f"--{name.replace('_', '-')}: no file {path}")
        setattr(args, name, path and path.resolve())
    commands = [name for name in COMMANDS if name != "growth"] if args.command == "all" else [args.command]
    check_packages(commands)
    TARGET.mkdir(parents=True, exist_ok=True)

    about = machine(args)
    features, packages = ", ".join(about["features"]), ", ".join(f"{n} {v}" for n, v in about["packages"].items())
    print(f"{about['date']}, {about['processor']}, {about['processors']} processors ({features}), {args.threads} threads, "
          f"median of {args.rounds}. {about['solon']}, {packages}.", flush=True)  # fmt: skip
    results = []
    for name in commands:
        title, unit, rows = COMMANDS[name](args)
        print(table(title, unit, rows), flush=True)
        results.append({"command": name, "title": title, "unit": unit, "rows": [vars(row) for row in rows]})
        if args.out:  # after each command: what is measured is kept should a later one fail
            args.out.write_text(json.dumps(about | {"results": results}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
