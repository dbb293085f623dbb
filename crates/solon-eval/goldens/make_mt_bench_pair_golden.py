"""What FastChat makes of pairs of answers: the judge's prompts, its verdicts, and the win rates.

Writes `mt_bench_pair.json` beside this file. Questions, answers, templates and the judge's texts are written here.

    python -m venv venv
    venv/bin/pip install pandas==3.1.1
    venv/bin/pip install --no-deps fschat==0.2.36
    venv/bin/python make_mt_bench_pair_golden.py
"""

import argparse
import importlib
import io
import json
import pathlib
import sys
import tempfile
import types
from contextlib import redirect_stdout

# FastChat's servers and clients are not needed, and their packages need not be there.
for name in ["openai", "anthropic"]:
    sys.modules[name] = types.ModuleType(name)
adapter = types.ModuleType("fastchat.model.model_adapter")


class Conversation:
    """What `run_judge_pair` uses of a conversation."""

    roles = ("user", "assistant")

    def __init__(self):
        self.system, self.messages = "", []

    def set_system_message(self, text):
        self.system = text

    def append_message(self, role, text):
        self.messages.append([role, text])


adapter.get_conversation_template = lambda model: Conversation()
adapter.ANTHROPIC_MODEL_LIST, adapter.OPENAI_MODEL_LIST = [], ["judge"]
package = types.ModuleType("fastchat.model")
package.__path__ = []
sys.modules.update({"fastchat.model": package, "fastchat.model.model_adapter": adapter})
common = importlib.import_module("fastchat.llm_judge.common")
show_result = importlib.import_module("fastchat.llm_judge.show_result")

TEMPLATES = [
    ("pair-v2", "Which?", "{question} | {answer_a} | {answer_b}"),
    ("pair-math-v1", "Which is right?", "{question} | {ref_answer_1} | {answer_a} | {answer_b}"),
    ("pair-v2-multi-turn", "Which, at last?", "{question_1} | {answer_a_1} | {question_2} | {answer_a_2} || "
     "{question_1} | {answer_b_1} | {question_2} | {answer_b_2}"),
    ("pair-math-v1-multi-turn", "Which is right, at last?", "{ref_answer_1} | {ref_answer_2} | {question_1} | "
     "{answer_a_1} | {question_2} | {answer_a_2} || {answer_b_1} | {answer_b_2}"),
]
QUESTIONS = [
    (1, "math", ["Add {1} and 2.", "And 4?"], ["3", "7"]),
    (2, "writing", ["Name a river.", "Another {question}."], None),
    (3, "math", ["Halve 8.", "Again."], ["4", "2"]),
    (4, "stem", ["What melts?", "What boils?"], None),
]
OWN = [["3 {answer_b}", "7"], ["Rhine", "Elbe"], ["5", "2"], ["Ice", "Tea"]]
BASELINE = [["4", "8 {ref}"], ["Nile", "Po"], ["4", "1"], ["Wax", "Soup"]]
# The judge's texts of both games of each turn, in the order of the matches: first turns, then second turns.
VERDICTS = [
    ("A is right. [[A]]", "[[B]]"),
    ("[[A]]", "[[A]]"),
    ("[[B]]", "B is worse. [[A]]"),
    ("[[C]]", "[[C]]"),
    ("[[B]] or [[A]]", "[[B]]"),
    ("I cannot say.", "[[A]]"),
    ("[[C]]", "[[B]]"),
    ("[[A]]", "[[B]]"),
]


def answer(turns):
    return {"choices": [{"index": 0, "turns": turns}]}


def main():
    templates = {
        name: {"name": name, "type": "pairwise", "system_prompt": system, "prompt_template": text, "output_format": "[[A]]"}
        for name, system, text in TEMPLATES
    }
    said = [text for games in VERDICTS for text in games]
    asked = []

    def completion(model, conversation, temperature, max_tokens):
        asked.append({"system": conversation.system, "max_tokens": max_tokens})
        return said[len(asked) - 1]

    common.chat_completion_openai = completion
    rows = []
    for turn in [1, 2]:
        for place, (question_id, category, turns, reference) in enumerate(QUESTIONS):
            name = ("pair-math-v1" if reference else "pair-v2") + ("-multi-turn" if turn == 2 else "")
            match = common.MatchPair(
                {"question_id": question_id, "category": category, "turns": turns},
                "own", "baseline", answer(OWN[place]), answer(BASELINE[place]),
                common.Judge("judge", templates[name]),
                ref_answer=answer(reference) if reference else None, multi_turn=turn == 2,
            )
            with redirect_stdout(io.StringIO()):
                row = common.play_a_match_pair(match, None)
            row.pop("tstamp")
            row["system"] = [part["system"] for part in asked[-2:]]
            row["max_tokens"] = asked[-1]["max_tokens"]
            rows.append(row)
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        shown = []
        show_result.print = lambda *words: shown.append(words[0])
        show_result.display_result_pairwise(
            argparse.Namespace(input_file=file.name, model_list=None, baseline_model="baseline")
        )
    figures = shown[-1].loc["own"]
    golden = {
        "templates": list(templates.values()),
        "questions": [
            {"question_id": i, "category": category, "turns": turns, "reference": reference}
            for i, category, turns, reference in QUESTIONS
        ],
        "own": OWN,
        "baseline": BASELINE,
        "rows": rows,
        "figures": {key: float(value) for key, value in figures.items()},
    }
    path = pathlib.Path(__file__).with_name("mt_bench_pair.json")
    path.write_text(json.dumps(golden, indent=1) + "\n")
    print(golden["figures"])


if __name__ == "__main__":
    main()
