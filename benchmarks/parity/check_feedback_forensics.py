"""Loads the annotated pairs that `solon export` writes with the package that reads them.

    python3 -m venv venv && venv/bin/pip install feedback-forensics==0.5.0
    solon export --run runs/first --out exported
    venv/bin/python benchmarks/parity/check_feedback_forensics.py exported

It checks that Feedback Forensics reads every pair and every annotator, that its preferences are those of preferences.jsonl,
and that it computes its figures of each principle.
"""

import json
import sys
from pathlib import Path

from feedback_forensics.data.handler import DatasetHandler
from feedback_forensics.data.loader import get_votes_dict_from_annotated_pairs_json

DEFAULT = "ba751e7b"


def main(folder):
    path = folder / "annotated-pairs.json"
    written = json.loads(path.read_text())
    votes = get_votes_dict_from_annotated_pairs_json(path)
    frame, annotators = votes["df"], votes["annotator_metadata"]

    # Pairs with an empty answer are left out by Feedback Forensics.
    whole = [c for c in written["comparisons"] if c["response_a"]["text"] and c["response_b"]["text"]]
    assert len(frame) == len(whole), (len(frame), len(whole))
    assert set(annotators) == set(written["annotators"]), annotators.keys()
    for comparison in whole:
        row = frame[frame["comparison_id"] == comparison["id"]].iloc[0]
        for key in ("text_a", "text_b"):
            assert row[key] == comparison[f"response_{key[-1]}"]["text"]
        for annotator, annotation in comparison["annotations"].items():
            read = row[annotator]
            expected = annotation["pref"] and f"text_{annotation['pref']}"
            assert read == expected or (expected is None and not isinstance(read, str)), (read, expected)
    assert votes["reference_annotator_col"] == DEFAULT and DEFAULT in frame.columns

    preferences = [json.loads(line) for line in (folder / "preferences.jsonl").open()]
    chosen = {(p["chosen"][0]["content"], p["rejected"][0]["content"]) for p in preferences if p["probability"] != 0.5}
    held = set()
    for comparison in written["comparisons"]:
        texts = comparison["response_a"]["text"], comparison["response_b"]["text"]
        pref = comparison["annotations"][DEFAULT]["pref"]
        if pref:
            held.add(texts if pref == "a" else texts[::-1])
    assert held <= chosen, held - chosen

    handler = DatasetHandler()
    handler.add_data_from_path(path)
    metrics = handler.get_overall_metrics()
    print(f"{len(frame)} pairs, {len(annotators)} annotators")
    print(json.dumps(metrics, indent=1, default=str))
    principles = [id for id, one in written["annotators"].items() if one["type"] == "principle"]
    print(json.dumps({"principles": len(principles)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
