#!/usr/bin/env python3
"""Compares `solon eval` with lm-evaluation-harness, item by item, on the same weights and the same local data.

    python benchmarks/parity/check_lm_eval.py --solon target/release/solon --model FOLDER --mmlu DIR --truthfulqa FILE

FOLDER is a Hugging Face folder, such as `runs/quickstart/model`; the CSV files of DIR have a header. The harness's own task files are used; only where their
data comes from is changed. Passes where 99 % of the items have the same choice and every log-prob is within 1e-2 nats,
both in f32. The seconds of both stand beside, of TruthfulQA Solon's for `mc1` and `mc2` together and the harness's for one of
them. `--precision bf16` gives both their faster format, which is held to 0.5 nats only.
"""

import argparse
import csv
import json
import pathlib
import subprocess
import sys
import tempfile
import time

SUBJECTS = ["anatomy", "global_facts", "formal_logic"]


def mmlu_rows(folder, split, subject):
    with open(folder / split / f"{subject}_{split}.csv", newline="") as file:
        for row in csv.DictReader(file):
            choices = [row[f"choice{i}"] for i in range(4)]
            yield {"question": row["question"], "subject": subject, "choices": choices, "answer": int(row["answer"])}


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def local_tasks(given, scratch):
    """The harness's task files with local data: {name: (configuration, Solon's flags, shots)}."""
    import lm_eval
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: node.value)
    tasks = pathlib.Path(lm_eval.__file__).parent / "tasks"
    read = lambda *names: {k: v for name in names for k, v in yaml.load((tasks / name).read_text(), Loader).items()}
    out = {}
    template = [] if given.chat_template else ["--no-chat-template"]
    for subject in given.subjects:
        files = {
            split: write_jsonl(scratch / f"{subject}_{split}.jsonl", mmlu_rows(given.mmlu, split, subject))
            for split in ["test", "dev"]
        }
        for kind in ["default", "continuation"] if given.continuation else ["default"]:
            shared = f"mmlu/{kind}/_{kind}_template_yaml"
            config = read(shared, f"mmlu/{kind}/mmlu_{subject}.yaml")
            config.update(dataset_path="json", dataset_kwargs={"data_files": files})
            for key in ["dataset_name", "include", "tag"]:
                config.pop(key, None)
            flags = ["mmlu", "--data", given.mmlu, "--subjects", subject]
            flags += ["--format", "letters" if kind == "default" else "continuation"]
            for shots in given.shots if kind == "default" else [0]:
                named = {**config, "task": f"{config['task']}_{shots}"}
                out[named["task"]] = (named, [*flags, "--shots", shots, *template], shots)
    if given.truthfulqa:
        rows = json.loads(given.truthfulqa.read_text())
        listed = lambda targets: {"choices": list(targets), "labels": list(targets.values())}
        rows = [
            {"question": row["question"], **{key: listed(row[key]) for key in ["mc1_targets", "mc2_targets"]}} for row in rows
        ]
        file = write_jsonl(scratch / "truthfulqa.jsonl", rows)
        for name in ["mc1", "mc2"]:
            config = read("truthfulqa/truthfulqa_mc1.yaml", f"truthfulqa/truthfulqa_{name}.yaml")
            config.update(dataset_path="json", dataset_kwargs={"data_files": {"validation": file}}, task=f"local_{name}")
            for key in ["dataset_name", "include", "tag"]:
                config.pop(key, None)
            if name == "mc2":
                from lm_eval.tasks.truthfulqa.utils import process_results_mc2

                config["process_results"] = process_results_mc2
            flags = ["truthfulqa", "--data", given.truthfulqa, "--limit", given.questions, *template]
            out[config["task"]] = (config, flags, 0)
    return out


def harness(given, config, shots, model):
    """Seconds, and {row: (choice, log-probs)}."""
    from lm_eval import simple_evaluate

    limit = given.questions if config["task"].startswith("local_mc") else None
    start = time.monotonic()
    result = simple_evaluate(
        model=model, tasks=[config], num_fewshot=shots, limit=limit, apply_chat_template=given.chat_template,
        fewshot_as_multiturn=given.chat_template, bootstrap_iters=0,
    )  # fmt: skip
    seconds = time.monotonic() - start
    found = {}
    for sample in result["samples"][config["task"]]:
        log_probs = [float(response[0]) for response in sample["filtered_resps"]]
        found[sample["doc_id"]] = (max(range(len(log_probs)), key=log_probs.__getitem__), log_probs)
    return seconds, found, result["results"][config["task"]]["acc,none"]


def ours(given, flags, scratch):
    samples = scratch / "samples.jsonl"
    command = [given.solon, "eval", *flags, "--model", given.model, "--precision", given.precision]
    command += ["--samples", samples, "--json"]
    start = time.monotonic()
    made = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    seconds = time.monotonic() - start
    return seconds, [json.loads(line) for line in samples.read_text().splitlines()], json.loads(made.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solon", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--mmlu", type=pathlib.Path, required=True, help="the folder that holds `test` and `dev`")
    parser.add_argument("--truthfulqa", type=pathlib.Path, help="v0/mc_task.json")
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS)
    parser.add_argument("--shots", nargs="+", type=int, default=[0, 5])
    parser.add_argument("--no-continuation", dest="continuation", action="store_false", help="letters alone")
    parser.add_argument("--questions", type=int, default=100, help="of TruthfulQA")
    parser.add_argument("--chat-template", action="store_true")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--batch", type=int, default=16, help="the harness's batch")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()

    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(given.threads)
    dtype = {"f32": "float32", "bf16": "bfloat16"}[given.precision]
    model = HFLM(pretrained=str(given.model), dtype=dtype, device="cpu", batch_size=given.batch)
    within = 1e-2 if given.precision == "f32" else 0.5
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for name, (config, flags, shots) in local_tasks(given, scratch).items():
            their_seconds, theirs, accuracy = harness(given, config, shots, model)
            our_seconds, rows, figures = ours(given, flags, scratch)
            if name.startswith("local_mc"):
                key = name.removeprefix("local_")
                rows = [row for row in rows if row["id"].endswith(key)]
                figure = figures[key]
            else:
                figure = figures["accuracy"]
            assert len(rows) == len(theirs), f"{name}: {len(rows)} and {len(theirs)} items"
            same = apart = 0
            for place, row in enumerate(rows):
                choice, log_probs = theirs[place]
                same += choice == row["choice"]
                apart = max(apart, *(abs(a - b) for a, b in zip(log_probs, row["loglikelihoods"], strict=True)))
            good = same >= 0.99 * len(rows) and apart <= within
            failed |= not good
            print(
                f"{'ok' if good else 'FAIL':4}  {name}: {same} of {len(rows)} choices the same, log-probs at most "
                f"{apart:.1e} apart; {100 * figure:.2f} and {100 * accuracy:.2f} %; {our_seconds:.1f} and "
                f"{their_seconds:.1f} s, {their_seconds / our_seconds:.1f} x",
                flush=True,
            )
    sys.exit(failed)


if __name__ == "__main__":
    main()
