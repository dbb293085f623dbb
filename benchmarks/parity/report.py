"""What the checks of this folder share: lines of a report, and runs of the program."""

import json
import subprocess
import sys

failures = []


def check(name, passed, detail):
    """Prints one line of the report and remembers a failure."""
    print(f"{'ok  ' if passed else 'FAIL'}  {name}: {detail}", flush=True)
    if not passed:
        failures.append(name)


def finish():
    """Ends the script, with 1 where a check failed."""
    sys.exit(f"{len(failures)} failed" if failures else 0)


def solon(program, *words):
    """Runs the program and returns the rows it writes."""
    done = subprocess.run([str(word) for word in (program, *words)], capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"solon {words[0]} failed:\n{done.stderr.decode()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
