#!/usr/bin/env python3
"""Reward models and DPO of Solon and TRL on the same pairs of hh-rlhf: accuracy on pairs kept out, losses, time, memory.

    python hh.py --solon target/release/solon --pairs harmless-base-test.jsonl.gz

Both train the same LoRA adapter from the same values, on the same pairs in the same batches and order, with the same
hyperparameters, once for each seed. A seed gives the adapter's and the reward head's first values and the order. What is
done lies in a folder of target/peers and is not done again: a broken-off run goes on with the same command; other
--threads, --together or --onednn have a folder of their own. Needs the packages of requirements.txt.
"""

import argparse
import json
import pathlib
import resource
import sqlite3
import statistics

from measure import TARGET, child, worker

BATCH = 10
RATES = {"reward": 1e-4, "dpo": 5e-5}  # Solon's defaults for an adapter; not tuned


def once(path, make):
    """The JSON that `make` gives, kept in this file."""
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made) + "\n")
        print(f"{path}: { {key: value for key, value in made.items() if not isinstance(value, list)} }", flush=True)
    return json.loads(path.read_text())


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(run):
    """What `run` gives, with the processor's seconds of the processes it ran."""
    start = processor_seconds()
    made = run()
    return made | {"processor_seconds": processor_seconds() - start}


def train_solon(args, method, seed):
    out = args.folder / f"{method}-{seed}" / "solon"
    command = [
        args.solon, method, "--model", args.folder / "model", "--adapter", args.folder / f"{method}-{seed}" / "start",
        "--data", args.folder / "train.jsonl", "--out", out, "--seed", seed, "--batch", BATCH, "--epochs", 1,
        "--learning-rate", RATES[method], "--precision", "f32", "--set", "schedule=linear", "--set", "warmup=0",
        "--threads", args.threads, "--json",
    ]  # fmt: skip
    if method == "reward":
        command += ["--set", "hold_out_every=0"]
    printed, peak = child(command, args.threads)
    losses, order = steps(out / "ledger.sqlite")
    seconds = json.loads(printed)["seconds"]
    return {"seconds": seconds, "peak_bytes": peak, "losses": losses, "order": order}


def steps(ledger):
    """The loss of every step, and the numbers of the pairs in the order in which they were taken."""
    with sqlite3.connect(ledger) as file:
        losses = [json.loads(data)["loss"] for (data,) in file.execute("SELECT data FROM steps ORDER BY step")]
        items = file.execute("SELECT item FROM step_items ORDER BY step, position").fetchall()
    return losses, [int(item.rsplit("pair-", 1)[1]) for (item,) in items]


def accuracy_of_solon(args, method, seed):
    """The share of test pairs whose chosen answer has the greater reward; DPO's is the log-prob gained over the reference's."""
    adapter = ["--adapter", args.folder / f"{method}-{seed}" / "solon"]
    both = lambda *adapter: {side: scored(args, side, *adapter) for side in ("chosen", "rejected")}
    reference = once(args.folder / "reference-solon.json", both) if method == "dpo" else None
    return accuracy(both(*adapter), reference)


def accuracy_of_trl(args, settings):
    if settings["method"] == "reward":
        return worker("hh_trl.accuracy", args.threads, **settings)[0]
    both = lambda adapter: worker("hh_trl.log_probs", args.threads, folder=args.folder, adapter=adapter, onednn=args.onednn)[0]
    reference = once(args.folder / "reference-trl.json", lambda: both(None))
    return accuracy(both(args.folder / f"dpo-{settings['seed']}" / "trl"), reference)


def accuracy(found, reference):
    gained = lambda side: [ours - before for ours, before in zip(found[side], reference[side], strict=True)] if reference else found[side]
    margins = [chosen - rejected for chosen, rejected in zip(gained("chosen"), gained("rejected"), strict=True)]
    return {"accuracy": statistics.mean(margin > 0 for margin in margins), "margins": margins}


def scored(args, side, *adapter):
    """Of every test pair's answer on this side the reward, or the log-prob."""
    model = ["--model", args.folder / "model", *adapter, "--precision", "f32", "--threads", args.threads]
    printed, _ = child([args.solon, "score", *model, "--input", args.folder / f"test-{side}.jsonl"], args.threads)
    rows = map(json.loads, printed.splitlines())
    return [row["reward"] if "reward" in row else sum(row["logprobs"]) for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solon", required=True, type=pathlib.Path, help="the program")
    parser.add_argument("--pairs", required=True, type=pathlib.Path, help="hh-rlhf's harmless-base/test.jsonl.gz")
    parser.add_argument("--gguf", type=pathlib.Path, help="the model; what `solon pull smollm2-135m-instruct` prints when left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=["reward", "dpo"], choices=["reward", "dpo"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--together", type=int, default=1, choices=[1, 2, 5, 10], help="pairs that TRL computes at a time: the fewer, the less padding")
    parser.add_argument("--onednn", action="store_true", help="have oneDNN multiply for TRL, in place of MKL")
    parser.add_argument("--only", choices=["train", "accuracy"], help="one half of the work")
    args = parser.parse_args()
    args.solon, args.pairs = args.solon.resolve(), args.pairs.resolve()
    gguf = args.gguf or pathlib.Path(child([args.solon, "pull", "smollm2-135m-instruct"], args.threads)[0].strip())
    args.folder = TARGET / f"hh-threads-{args.threads}-together-{args.together}{'-onednn' if args.onednn else ''}"
    args.folder.mkdir(parents=True, exist_ok=True)

    model = args.folder / "model"
    if not model.exists():
        worker("inputs.model", args.threads, gguf=gguf.resolve(), folder=model)
    once(args.folder / "pairs.json", lambda: worker("hh_trl.pairs", args.threads, source=args.pairs, model=model, folder=args.folder)[0])
    for seed in args.seeds:
        for method in args.methods:
            name = f"{method}-{seed}"
            settings = {
                "method": method, "seed": seed, "folder": args.folder, "batch": BATCH, "together": args.together,
                "rate": RATES[method], "onednn": args.onednn,
            }  # fmt: skip
            if not (args.folder / name / "start").exists():
                worker("hh_trl.start", args.threads, **settings)
            if args.only != "accuracy":
                once(args.folder / name / "solon-training.json", lambda: timed(lambda: train_solon(args, method, seed)))
                once(args.folder / name / "trl-training.json", lambda: timed(lambda: train_trl(args, settings)))
            if args.only != "train":
                once(args.folder / name / "solon-accuracy.json", lambda: accuracy_of_solon(args, method, seed))
                once(args.folder / name / "trl-accuracy.json", lambda: accuracy_of_trl(args, settings))
    print(table(args))


def train_trl(args, settings):
    made, peak = worker("hh_trl.train", args.threads, **settings)
    return made | {"peak_bytes": peak}


def table(args):
    """Markdown: a row for each method and seed that is whole."""
    lines = [
        "| method, seed | accuracy, Solon | TRL | first step's loss, Solon | TRL | largest difference of a step's loss "
        "| seconds, TRL ÷ Solon | processor's seconds, TRL ÷ Solon | memory, Solon ÷ TRL |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for method in args.methods:
        for seed in args.seeds:
            read = lambda name: json.loads(path.read_text()) if (path := args.folder / f"{method}-{seed}" / f"{name}.json").exists() else None
            ours, theirs = read("solon-training"), read("trl-training")
            if not ours or not theirs:
                continue
            shares = [read("solon-accuracy"), read("trl-accuracy")]
            told = " | ".join(f"{share['accuracy']:.1%}" if share else "" for share in shares)
            apart = max(abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
            ratio = lambda key: theirs[key] / ours[key]
            lines.append(
                f"| {method}, {seed} | {told} | {ours['losses'][0]:.4f} | {theirs['losses'][0]:.4f} | {apart:.1e} "
                f"| {ratio('seconds'):.2f} | {ratio('processor_seconds'):.2f} | {1 / ratio('peak_bytes'):.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
