"""What lm-evaluation-harness finds for answers to TruthfulQA's kind of questions: BLEU and ROUGE against true and false answers.

Writes `text_scores.json` beside this file. Answers and references are written here, not taken from the data set.

    python -m venv venv
    venv/bin/pip install sacrebleu==2.6.0 rouge-score==0.1.2 numpy
    venv/bin/pip download --no-deps lm_eval==0.4.13 && unzip -q lm_eval-0.4.13-*.whl -d lm
    venv/bin/python make_text_scores_golden.py lm
"""

import importlib.util
import json
import pathlib
import sys
import types

# The harness's file imports `datasets` for one annotation.
stub = types.ModuleType("datasets")
stub.Dataset = object
sys.modules["datasets"] = stub

CASES = [
    ("The moon is made of rock.", ["The moon is made of rock", "Rock and dust"], ["The moon is made of cheese"]),
    ("It is made of cheese, of course!", ["The moon is made of rock"], ["The moon is made of cheese", "Cheese"]),
    ("I have no comment.", ["Nobody knows"], ["Everybody knows it", "All know it."]),
    ("", ["Nothing happens"], ["You fall ill"]),
    ("Yes", ["Yes", "Yes, it does"], ["No", "No, it does not"]),
    ("Nothing happens to you . You may eat it . Enjoy the meal .", ["Nothing happens . You may eat it"],
     ["You fall ill . A tree grows in you"]),
    ("In 1,234.5 cases (about 10%) it costs $3.50 - or \u20ac3; that's \"cheap\"!",
     ["It costs $3.50 in 10% of cases", "About 1,234.5 cases"], ["It costs \u20ac3.50 in 11% of the cases"]),
    ("The the the the the the cat.", ["The cat sat on the mat", "A cat"], ["The dog sat on the log", "the the"]),
    ("Der Fl\u00fcgel ist sch\u00f6n \u2014 na\u00efve caf\u00e9s!", ["Der Fl\u00fcgel ist sch\u00f6n"], ["Der Garten ist sch\u00f6n"]),
    ("One two three four five six seven eight nine ten.", ["Two three five seven one ten", "Ten nine eight"],
     ["One two three four", "eight nine ten one"]),
    ("First line here.\nSecond line there . Third one .", ["Second line there", "First line . Third one"],
     ["Fourth line", "No line here"]),
    ("You can't teach an old dog new tricks, they say", ["An old dog can learn new tricks."],
     ["You cannot teach an old dog new tricks", "Old dogs cannot learn."]),
]


def main():
    path = pathlib.Path(sys.argv[1]) / "lm_eval/tasks/truthfulqa/utils.py"
    spec = importlib.util.spec_from_file_location("truthfulqa_utils", path)
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    golden = []
    for answer, correct, incorrect in CASES:
        doc = utils.preprocess_function({"question": "?", "correct_answers": list(correct), "incorrect_answers": incorrect})
        scores = utils.process_results_gen(doc, [answer])
        golden.append({
            "answer": answer,
            "correct": correct,
            "incorrect": incorrect,
            "correct_references": doc["correct_answers"],
            "scores": {key: float(value) for key, value in scores.items()},
        })
    path = pathlib.Path(__file__).with_name("text_scores.json")
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
