"""Runs programs in processes of their own, in alternation, and tables what they did.

Imports the standard library alone: the peak memory that Linux reports for a process counts its parent's until it
starts, so the parent must stay small.
"""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Callable

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "target" / "peers"


def environment(threads):
    """Of every child: threads, no network, no progress bars, compiled kernels kept with the other working files.

    PyTorch's memory is the C library's as it comes. Tried on an autocast step, in tokens per second of processor time:
    156 as it comes, 155 with MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ raised, 135 with THP_MEM_ALLOC_ENABLE,
    117 with glibc.malloc.hugetlb. Raised thresholds saved a tenth of TRL's DPO at batch 8, for a tenth more memory.
    """
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(TARGET / "inductor"),
    }


def child(command, threads):
    """Runs a program: what it wrote on stdout, and the most memory it held, in bytes."""
    command = [str(part) for part in command]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment(threads), text=True)
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-3000:]
            sys.exit(f"failed with status {process.returncode}: {' '.join(command)}\n{said}")
    return out, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def solon(command, threads):
    """Runs a Solon command that prints one JSON object: the object, and its peak memory."""
    out, peak = child([*command, "--threads", threads, "--json"], threads)
    return json.loads(out), peak


def worker(function, threads, **settings):
    """Runs `module.function` of this folder in a Python of its own: what it returns, and its peak memory."""
    command = [sys.executable, HERE / "peers.py", "worker", function, json.dumps(settings | {"threads": threads}, default=str)]
    out, peak = child(command, threads)
    return json.loads(out.splitlines()[-1]), peak


@dataclasses.dataclass
class Program:
    """One program on one work. `run` gives `{work: rate}` and peak memory; `rival` is Solon's program it is held to."""

    name: str
    run: Callable
    rival: str = ""


@dataclasses.dataclass
class Row:
    work: str
    program: str
    rival: str
    rates: list = dataclasses.field(default_factory=list)
    peaks: list = dataclasses.field(default_factory=list)


def alternate(programs, rounds):
    """Runs each program once in each round, in turn: a row for each work and program."""
    rows = {}
    for number in range(1, rounds + 1):
        for program in programs:
            rates, peak = program.run()
            for work, rate in rates.items():
                row = rows.setdefault((work, program.name), Row(work, program.name, program.rival))
                row.rates.append(rate)
                row.peaks.append(peak)
                print(f"round {number}: {work}, {program.name}: {rate:.1f}, {peak / 1e6:.0f} MB", file=sys.stderr, flush=True)
    return list(rows.values())


def table(title, unit, rows):
    """Markdown. Ratios are of medians, Solon's over the program's: above 1 Solon is faster, below 1 it needs less memory."""
    by_name = {(row.work, row.program): row for row in rows}
    lines = [
        f"\n## {title}\n",
        f"| work | program | {unit}, median (min to max) | peak memory, MB | Solon ÷ program | memory, Solon ÷ program |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in sorted(rows, key=lambda row: list(dict.fromkeys(r.work for r in rows)).index(row.work)):
        rate, peak = statistics.median(row.rates), statistics.median(row.peaks)
        speed = memory = ""
        rival = by_name.get((row.work, row.rival))
        if rival and row is not rival:
            speed = f"{statistics.median(rival.rates) / rate:.2f}"
            memory = f"{statistics.median(rival.peaks) / peak:.2f}"
        span = f"{rate:,.1f} ({min(row.rates):,.1f} to {max(row.rates):,.1f})"
        lines.append(f"| {row.work} | {row.program} | {span} | {peak / 1e6:,.0f} | {speed} | {memory} |")
    return "\n".join(lines)
