"""What lm-evaluation-harness finds of answers to IFEval's kinds of instructions, strictly and loosely.

Writes `ifeval.json` beside this file. Prompts, arguments and answers are written here, not taken from the data set.

    python -m venv venv
    venv/bin/pip install nltk==3.10.4 langdetect==1.0.9 immutabledict packaging
    venv/bin/pip download --no-deps lm_eval==0.4.13 && unzip -q lm_eval-0.4.13-*.whl -d lm
    venv/bin/python make_ifeval_golden.py lm

Two things are not the harness's. NLTK's Punkt needs a model that is no part of its package: `number_sentences` is given
answers whose sentences are plain to see, and is counted here by hand, and the Treebank tokenizer is run on whole answers,
not sentence by sentence; that parts no word in another way. And langdetect, which draws at random, is given a seed.
"""

import importlib
import json
import pathlib
import re
import sys
import types

HARNESS = sys.argv[1]
for name in ["lm_eval", "lm_eval.tasks", "lm_eval.tasks.ifeval"]:
    package = types.ModuleType(name)
    package.__path__ = [str(pathlib.Path(HARNESS, *name.split(".")))]
    sys.modules[name] = package

import langdetect  # noqa: E402
import nltk  # noqa: E402
from nltk.tokenize import NLTKWordTokenizer  # noqa: E402

nltk.download = lambda *words, **keys: True
nltk.data.find = lambda *words, **keys: True
langdetect.DetectorFactory.seed = 0
util = importlib.import_module("lm_eval.tasks.ifeval.instructions_util")
util.nltk.word_tokenize = NLTKWordTokenizer().tokenize
util.count_sentences = lambda text: len([s for s in re.split(r"(?<=[.!?])\s+", text.strip()) if s])
utils = importlib.import_module("lm_eval.tasks.ifeval.utils")

ENGLISH = "The river runs slowly through the old town, and in the evening people sit on its banks and talk about the day."
FRENCH = "La rivi\u00e8re coule lentement dans la vieille ville, et le soir les gens s'assoient au bord de l'eau pour parler."
GERMAN = "Der Fluss flie\u00dft langsam durch die alte Stadt, und am Abend sitzen die Menschen am Ufer und reden \u00fcber den Tag."
HINDI = "\u0928\u0926\u0940 \u092a\u0941\u0930\u093e\u0928\u0947 \u0936\u0939\u0930 \u0938\u0947 \u0939\u094b\u0915\u0930 \u0927\u0940\u0930\u0947 \u0927\u0940\u0930\u0947 \u092c\u0939\u0924\u0940 \u0939\u0948 \u0914\u0930 \u0936\u093e\u092e \u0915\u094b \u0932\u094b\u0917 \u0915\u093f\u0928\u093e\u0930\u0947 \u092a\u0930 \u092c\u0948\u0920\u0924\u0947 \u0939\u0948\u0902\u0964"

CASES = [
    (["keywords:existence"], [{"keywords": ["river", "Bank"]}],
     ["A river bank.", "RIVERS and banking", "A river.", "*ri*ver b*ank*"]),
    (["keywords:frequency"], [{"keyword": " tea ", "frequency": 2, "relation": "at least"}],
     ["Tea, tea.", "One tea.", "A steam engine for tea", "tea\ntea\ntea"]),
    (["keywords:frequency"], [{"keyword": "tea", "frequency": 2, "relation": "less than"}], ["Tea, tea.", "One tea.", "tea\ntea"]),
    (["keywords:forbidden_words"], [{"forbidden_words": ["cat", "dog house"]}],
     ["A category.", "The Cat sat.", "a dog house", "A dog's house", "cat\nA bird.", "cat_"]),
    (["keywords:letter_frequency"], [{"letter": "E", "let_frequency": 3, "let_relation": "at least"}],
     ["Eve seen", "E e", "eel\nbee"]),
    (["keywords:letter_frequency"], [{"letter": "z", "let_frequency": 1, "let_relation": "less than"}], ["Zoo", "A barn"]),
    (["language:response_language"], [{"language": "fr"}], [FRENCH, ENGLISH, GERMAN, "123 456"]),
    (["language:response_language"], [{"language": "hi"}], [HINDI, FRENCH]),
    (["length_constraints:number_sentences"], [{"num_sentences": 3, "relation": "at least"}],
     ["One here. Two here! Three here?", "One here. Two here.", "Title\nOne here. Two here. Three here."]),
    (["length_constraints:number_sentences"], [{"num_sentences": 2, "relation": "less than"}],
     ["One here.", "One here. Two here."]),
    (["length_constraints:number_paragraphs"], [{"num_paragraphs": 2}],
     ["One\n***\nTwo", "***\nOne\n***\nTwo\n***", "One\n***\n***\nTwo", "One", "Sure:\n***\nOne\n***\nTwo", "One *** Two"]),
    (["length_constraints:number_words"], [{"num_words": 5, "relation": "at least"}],
     ["One two three four five", "It's a well-known one", "one_two three four", "A\nb c d e f"]),
    (["length_constraints:number_words"], [{"num_words": 3, "relation": "less than"}], ["One two", "One two three", "Caf\u00e9 \u00e9t\u00e9 - !"]),
    (["length_constraints:nth_paragraph_first_word"], [{"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weather"}],
     ["Hello.\n\nWeather is fine.", "Hello.\n\nweather, fine.", "Hello.\n\n'\"Weather\" here", "Hello.\n\nThe weather.",
      "Hello.\n\n\n\nWeather here", "Hello.\n\nWeather\n\nMore", "Weather.", "Sure.\nHello.\n\n**Weather** is"]),
    (["detectable_content:number_placeholders"], [{"num_placeholders": 2}],
     ["[name] lives in [town]", "[name]", "[a\nb] [c]", "[[x]] [y]", "[]["]),
    (["detectable_content:postscript"], [{"postscript_marker": "P.S."}],
     ["Text.\nP.S. More", "Text. p. s. more", "Text PS more", "P.S"]),
    (["detectable_content:postscript"], [{"postscript_marker": "P.P.S"}], ["Text.\nP.P.S More", "P.S. more", "p. p. s"]),
    (["detectable_format:number_bullet_lists"], [{"num_bullets": 2}],
     ["* One\n* Two", "- One\n- Two", "* One\n- Two\ntext", "** One\n* Two", "* One", "Sure:\n\n  * One\n  * Two\n", "a - b\n- c\n-"]),
    (["detectable_format:constrained_response"], [{}],
     ["My answer is yes.", " My answer is maybe. ", "my answer is no.", "My answer is *no*."]),
    (["detectable_format:number_highlighted_sections"], [{"num_highlights": 2}],
     ["*one* and *two*", "**one**", "**one** and **two**", "* * and *x*", "*one\ntwo* *three*", "***a***", "*a* *b"]),
    (["detectable_format:multiple_sections"], [{"section_spliter": "SECTION ", "num_sections": 2}],
     ["SECTION 1\nText\nSECTION 2\nText", "Section 1 Section 2", "SECTION 1", "SECTION1 SECTION 22 x"]),
    (["detectable_format:json_format"], [{}],
     ['{"a": [1, 2]}', '```json\n{"a": 1}\n```', "```\n[1]\n```", "Sure:\n{\"a\": 1}", "{a: 1}", "3", '"text"', "```JSON\n{}"]),
    (["detectable_format:title"], [{}], ["<<A title>>\nText", "<<>>", "<< >>", "<A>", "<<a\nb>>", "*<<b>>*"]),
    (["combination:two_responses"], [{}],
     ["One\n******\nTwo", "One******One", "One", "******One******Two******", "One************Two", "A******B******C"]),
    (["combination:repeat_prompt"], [{"prompt_to_repeat": "Name a river."}],
     ["Name a river. The Rhine.", "name A RIVER. Rhine", "The Rhine.", "**Name a river.** Rhine", "Sure.\nName a river. Rhine"]),
    (["startend:end_checker"], [{"end_phrase": "The end. "}],
     ["It is over. The end.", "It is over. the END.\"", "The end. Bye.", "The end.\nBye."]),
    (["change_case:capital_word_frequency"], [{"capital_frequency": 3, "capital_relation": "at least"}],
     ["ONE TWO THREE", "ONE TWO three", "STATE-OF-THE-ART is ONE", "DON'T STOP", "NASA,ESA and CNES", "I AM A-OK.", "A (BIG) \"DEAL\""]),
    (["change_case:capital_word_frequency"], [{"capital_frequency": 2, "capital_relation": "less than"}],
     ["one TWO", "ONE TWO", "I'M here", "U.S. and U.K.", "X2 or 42"]),
    (["change_case:english_capital"], [{}], [ENGLISH.upper(), ENGLISH, GERMAN.upper()]),
    (["change_case:english_lowercase"], [{}], [ENGLISH.lower(), ENGLISH, FRENCH.lower()]),
    (["punctuation:no_comma"], [{}], ["No comma here.", "One, two.", "Well,\nnone here."]),
    (["startend:quotation"], [{}], ['"Quoted."', ' "Quoted." ', '"', "'Quoted.'", 'Here:\n"Quoted."', '**"Quoted."**']),
    (["punctuation:no_comma", "detectable_format:title", "length_constraints:number_words"],
     [{}, {"num_words": None}, {"num_words": 4, "relation": "at least", "keywords": None}],
     ["<<A title>> and then more", "<<A, title>> and then more", "A title"]),
]


def main():
    golden = []
    for key, (names, kwargs, answers) in enumerate(CASES):
        row = {"key": key, "prompt": "Name a river.", "instruction_id_list": names, "kwargs": kwargs}
        found = []
        for answer in answers:
            scores = utils.process_results(row, [answer])
            found.append({
                "answer": answer,
                "strict": scores["inst_level_strict_acc"],
                "loose": scores["inst_level_loose_acc"],
            })
        golden.append({"row": row, "answers": found})
    path = pathlib.Path(__file__).with_name("ifeval.json")
    path.write_text(json.dumps(golden, indent=1) + "\n")
    print(sum(len(row["answers"]) for row in golden), "answers")


if __name__ == "__main__":
    main()
