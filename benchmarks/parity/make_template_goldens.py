#!/usr/bin/env python3
"""Makes `goldens.json` beside a folder of chat templates: what transformers and TRL make of each with each conversation.

    pip install transformers==5.24.0 tokenizers==0.23.3 jinja2==3.1.6
    python benchmarks/parity/make_template_goldens.py            # crates/solon-text/tests/templates
    python benchmarks/parity/make_template_goldens.py FOLDER     # other templates: FOLDER/*.jinja

Every template gets the same small byte-level tokenizer (the one of crates/solon-text/tests/goldens) with special tokens
of its own, so no model is needed. Templates that TEMPLATES does not name get the tokens that their source seems to write.

The prompt is `apply_chat_template(messages[:-1], add_generation_prompt=True)`, the whole
`apply_chat_template(messages)`, the completion what follows the prompt in the whole. This is TRL 1.10's rule for a row of
prompt and completion (`trainer/sft_trainer.py::tokenize_fn`; `trainer/dpo_trainer.py::tokenize_fn` is the same). Where
the prompt is no prefix of the whole, TRL warns, and the longest common prefix counts (`data_utils.py::apply_chat_template`,
there of the two texts).

Conversations with tools, calls and reasoning in a field of its own get the same rules (`INPUTS` are the `tools` and
`chat_template_kwargs` of a row). Where a part of them leaves no trace in the text, as in templates that know no tools, Solon refuses the
row as `Lost` (`lost`).

TRL also learns what the template writes after the end of turn, such as a line end. Solon stops at the end of turn, so the
completion is cut behind it. Where the template writes no end of turn, it is cut behind the answer, and the end of
sequence, which Solon adds there, follows.
"""

import json
import re
import sys
from datetime import datetime
from pathlib import Path

import transformers.utils.chat_template_utils as chat_template_utils
from jinja2.exceptions import TemplateError
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

TESTS = Path(__file__).parents[2] / "crates/solon-text/tests"


class Date(datetime):
    """The date that Solon gives to templates."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_template_utils.datetime = Date

CHATML = ["<|im_start|>", "<|im_end|>"]
LLAMA = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
DEEPSEEK = ["<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"]
GEMMA = ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>"]
COHERE = ["<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>",
          "<|START_RESPONSE|>", "<|END_RESPONSE|>"]
TEKKEN = ["<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
PHI = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
GLM = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
SENTENCEPIECE = ["<s>", "</s>"]

# Beginning and end of sequence, the end of an assistant's turn (None where the template writes none), special tokens.
# A token that ends in " +" takes the white space behind it (`rstrip`).
TEMPLATES = {
    "alpaca": ("<s>", "</s>", None, SENTENCEPIECE),
    "aya-expanse": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", COHERE),
    "baichuan-2": ("<s>", "</s>", None, [*SENTENCEPIECE, "<reserved_106>", "<reserved_107>"]),
    "chatml": (None, "<|im_end|>", "<|im_end|>", CHATML),
    "command-r": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", COHERE),
    "command-r7b": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>", COHERE),
    "deepseek-r1": (DEEPSEEK[0], DEEPSEEK[3], DEEPSEEK[3], DEEPSEEK),
    "deepseek-r1-0528": (DEEPSEEK[0], DEEPSEEK[3], DEEPSEEK[3], DEEPSEEK),
    "deepseek-v2": (DEEPSEEK[0], DEEPSEEK[3], DEEPSEEK[3], DEEPSEEK),
    "deepseek-v3": (DEEPSEEK[0], DEEPSEEK[3], DEEPSEEK[3], DEEPSEEK),
    "deepseek-v3.1": (DEEPSEEK[0], DEEPSEEK[3], DEEPSEEK[3], DEEPSEEK),
    "ernie-4.5": ("<s>", "</s>", "</s>", [*SENTENCEPIECE, "<|begin_of_sentence|>"]),
    "exaone-3.5": ("[BOS]", "[|endofturn|]", "[|endofturn|]", ["[BOS]", "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"]),
    "falcon": (None, "<|endoftext|>", None, ["<|endoftext|>"]),
    "falcon-3": (None, "<|endoftext|>", "<|endoftext|>", ["<|endoftext|>"]),
    "gemma": ("<bos>", "<eos>", "<end_of_turn>", GEMMA),
    "gemma-3": ("<bos>", "<eos>", "<end_of_turn>", GEMMA),
    "glm-4": (None, "<|endoftext|>", None, GLM),
    "glm-4.5": (None, "<|endoftext|>", None, [*GLM, "<think>", "</think>"]),
    "gpt-oss": ("<|startoftext|>", "<|return|>", "<|return|>",
                ["<|startoftext|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"]),
    "granite-3": ("<|end_of_text|>", "<|end_of_text|>", "<|end_of_text|>", ["<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"]),
    "hermes-2-pro": ("<s>", "<|im_end|>", "<|im_end|>", [*SENTENCEPIECE, *CHATML]),
    "hunyuan": ("<|startoftext|>", "<|eos|>", "<|eos|>", ["<|startoftext|>", "<|extra_0|>", "<|extra_4|>", "<|eos|>"]),
    "internlm2": ("<s>", "</s>", "<|im_end|>", [*SENTENCEPIECE, *CHATML]),
    "jamba-1.5": ("<|startoftext|>", "<|endoftext|>", "<|eom|>",
                  ["<|startoftext|>", "<|endoftext|>", "<|bom|>", "<|eom|>", "<|system|>", "<|user|>", "<|assistant|>"]),
    "kimi-k2": ("[BOS]", "[EOS]", "<|im_end|>",
                ["[BOS]", "[EOS]", "<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>",
                 "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"]),
    "lfm2": ("<|startoftext|>", "<|im_end|>", "<|im_end|>", ["<|startoftext|>", *CHATML]),
    "llama-2": ("<s>", "</s>", "</s>", SENTENCEPIECE),
    "llama-3": ("<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", LLAMA),
    "llama-3.1": ("<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", LLAMA),
    "llama-3.2": ("<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", LLAMA),
    "llama-4": ("<|begin_of_text|>", "<|eot|>", "<|eot|>", ["<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>"]),
    "llama-nemotron": ("<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", LLAMA),
    "minicpm": ("<s>", "</s>", None, SENTENCEPIECE),
    "minicpm3": ("<s>", "<|im_end|>", "<|im_end|>", [*SENTENCEPIECE, *CHATML]),
    "mistral-nemo": ("<s>", "</s>", "</s>", TEKKEN),
    "mistral-small-3": ("<s>", "</s>", "</s>", TEKKEN),
    "mistral-v0.1": ("<s>", "</s>", "</s>", SENTENCEPIECE),
    "mistral-v0.3": ("<s>", "</s>", "</s>", TEKKEN),
    "mixtral": ("<s>", "</s>", "</s>", SENTENCEPIECE),
    "nemotron-mini": ("<s>", "</s>", None, [*SENTENCEPIECE, "<extra_id_0>", "<extra_id_1>"]),
    "olmo-2": ("<|endoftext|>", "<|endoftext|>", "<|endoftext|>", ["<|endoftext|>"]),
    "openchat-3.5": ("<s>", "<|end_of_turn|>", "<|end_of_turn|>", [*SENTENCEPIECE, "<|end_of_turn|>"]),
    "phi-3": ("<s>", "<|endoftext|>", "<|end|>", ["<s>", *[f"{token} +" for token in PHI]]),
    "phi-3.5": ("<s>", "<|endoftext|>", "<|end|>", ["<s>", *[f"{token} +" for token in PHI]]),
    "phi-4": ("<|endoftext|>", "<|im_end|>", "<|im_end|>", ["<|endoftext|>", *CHATML, "<|im_sep|>"]),
    "phi-4-mini": ("<|endoftext|>", "<|endoftext|>", "<|end|>", PHI),
    "phi-4-reasoning": ("<|endoftext|>", "<|im_end|>", "<|im_end|>", ["<|endoftext|>", *CHATML, "<|im_sep|>"]),
    "qwen2": (None, "<|im_end|>", "<|im_end|>", CHATML),
    "qwen2.5": (None, "<|im_end|>", "<|im_end|>", CHATML),
    "qwen3": (None, "<|im_end|>", "<|im_end|>", [*CHATML, "<think>", "</think>"]),
    "qwen3-instruct-2507": (None, "<|im_end|>", "<|im_end|>", [*CHATML, "<think>", "</think>"]),
    "qwen3-thinking-2507": (None, "<|im_end|>", "<|im_end|>", [*CHATML, "<think>", "</think>"]),
    "qwq": (None, "<|im_end|>", "<|im_end|>", [*CHATML, "<think>", "</think>"]),
    "smollm2": ("<|im_start|>", "<|im_end|>", "<|im_end|>", CHATML),
    "smollm3": (None, "<|im_end|>", "<|im_end|>", [*CHATML, "<think>", "</think>"]),
    "solar": ("<s>", "</s>", "</s>", SENTENCEPIECE),
    "stablelm-zephyr": ("<|endoftext|>", "<|endoftext|>", "<|endoftext|>", ["<|endoftext|>"]),
    "starchat2": (None, "<|im_end|>", "<|im_end|>", CHATML),
    "starcoder2-instruct": ("<|endoftext|>", "<|endoftext|>", "<|endoftext|>", ["<|endoftext|>"]),
    "tinyllama": ("<s>", "</s>", "</s>", SENTENCEPIECE),
    "tulu-3": ("<|begin_of_text|>", "<|end_of_text|>", "<|end_of_text|>", [*LLAMA, "<|end_of_text|>"]),
    "vicuna": ("<s>", "</s>", "</s>", SENTENCEPIECE),
    "yi-1.5": ("<s>", "<|im_end|>", "<|im_end|>", [*SENTENCEPIECE, *CHATML]),
    "zephyr": ("<s>", "</s>", "</s>", SENTENCEPIECE),
}


def turn(role, content):
    return {"role": role, "content": content}


# Jinja and Python as templates use them. `v` is one of the values.
VALUES = ["none", "nothing", "true", "1", "1.5", "''", "'abc'", "[]", "[1, 2]", "(1, 2)", "{}", "{'a': 1}", "range(3)",
          "messages", "messages[0]", "namespace(a=1)"]
CHECKS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "iterable", "sequence",
          "mapping", "callable"]
SNIPPETS = [
    *[f"{{% set v = {value} %}}{{{{ v is {check} }}}}" for value in VALUES for check in CHECKS],
    *[f"{{% set v = {value} %}}{{{{ 'yes' if v else 'no' }}}}{{{{ 'a' in (v or 'a') }}}}" for value in VALUES],
    *[f"{{% set v = {value} %}}{{{{ v }}}}|{{{{ v | string }}}}|{{{{ 'a' ~ v }}}}" for value in VALUES[:12]],
    *[f"{{% set v = {value} %}}{{{{ v | length }}}}" for value in VALUES],
    *[f"{{% set v = {value} %}}{{{{ v | tojson }}}}" for value in VALUES[:12]],
    *[f"{{% set v = {value} %}}{{{{ v | default('d') }}}}{{{{ v | default('d', true) }}}}{{{{ v | d('d', boolean=true) }}}}" for value in VALUES[:12]],
    *[f"{{{{ '  a,b,,c \\n d ' | replace('x', 'y') }}}}{{{{ '  a,b,,c \\n d '.{call} }}}}" for call in (
        "split()", "split(',')", "split(',', 1)", "split(',', maxsplit=1)", "rsplit(',', 1)", "rsplit()", "partition(',')", "rpartition(',')",
        "strip(' d')", "lstrip()", "rstrip('d ')", "removeprefix('  a')", "removesuffix(' d ')", "splitlines()", "splitlines(true)", "title()",
        "capitalize()", "upper()", "lower()", "swapcase()", "casefold()", "find('b')", "rfind(',')", "index('b')", "rindex(',')", "count(',')",
        "startswith(('x', '  a'))", "endswith(' d ')", "isspace()", "isdigit()", "isalpha()", "isupper()", "replace(',', ';')",
        "replace(',', ';', 1)", "zfill(20)", "center(20)", "ljust(20, '.')", "rjust(20)", "join(['x', 'y'])", "format(1)", "encode('utf-8')",
        "expandtabs()", "isalnum()", "islower()", "isnumeric()", "isdecimal()", "istitle()", "isidentifier()")],
    *[f"{{{{ [3, 1, 2, 1] {rest} }}}}" for rest in (
        "| sort", "| sort(reverse=true)", "| unique | list", "| first", "| last", "| min", "| max", "| sum", "| join('-')", "| reverse | list",
        "| map('string') | list", "| select('odd') | list", "| reject('equalto', 1) | list", "| batch(2) | list", "| length", "| count",
        "| list", "| slice(2) | list", "[::-1]", "[1:]", "[:-1]", "[-1]", "[1:3]", "+ [4]", ".index(2)", ".count(1)", "* 2",
        "| select('in', [1, 2]) | list", "== [3, 1, 2, 1]", "| random is number", "| tojson(indent=2)", "| pprint")],
    *[f"{{{{ {{'b': 1, 'a': [2, 'x']}} {rest} }}}}" for rest in (
        "", "| dictsort", "| items | list", ".items() | list", ".keys() | list", ".values() | list", ".get('b')", ".get('c')", ".get('c', 5)",
        "['b']", ".b", ".c", "| length", "| list", "| tojson", "| tojson(indent=4)", "| tojson(separators=(',', ':'))", "| tojson(sort_keys=true)",
        "| map('upper') | list", "| dictsort(by='value') | length", "| xmlattr", ".copy()", ".pop('b')", ".update({'c': 1})")],
    *[f"{{{{ messages {rest} }}}}" for rest in (
        "| map(attribute='role') | list", "| map(attribute='content') | join('|')", "| selectattr('role', 'equalto', 'user') | list | length",
        "| selectattr('role', '==', 'user') | map(attribute='content') | first", "| rejectattr('role', 'in', ['user']) | list | length",
        "| selectattr('tool_calls', 'defined') | list", "| selectattr('tool_calls') | list", "| groupby('role') | list | length", "| last",
        "[0]", "[0].items() | list", "[0].keys() | list", "[-1]['role']", "[9] is defined", "[0].nothing is defined", "[0]['nothing'] is none",
        "[0].get('nothing') is none", "[0].nothing.more", "| length > 1 and messages[1].role == 'user'", "| map(attribute='nothing') | list",
        "| sort(attribute='role') | map(attribute='role') | join", "| tojson", "[0] == messages[0]", "[1:][0] is mapping", "[::2] | length",
        "| map(attribute='nothing', default='x') | join", "| sum(attribute='nothing', start=1)")],
    *[f"{{{{ {expression} }}}}" for expression in (
        "7 / 2", "7 // 2", "-7 // 2", "-7 % 3", "2 ** 10", "1.0", "1e3", "10 / 5", "1 == 1.0", "true + 1", "'a' * 3", "'a' 'b'", "'%s-%d' % ('a', 3)",
        "'{}'.format(1)", "'%05.2f' | format(3.14159)", "none == false", "'abc'[1]", "'abc'[-1]", "'abc'[::-1]", "'abc'[1:]", "'abc' | list",
        "'a' < 'b'", "1 < 2 < 3", "not none", "none or 'x'", "'' or none", "1 and 2", "[] or {}", "'x' if false", "('x' if false) is defined",
        "nothing", "nothing.more is defined", "nothing ~ 'a'", "nothing + 'a'", "none + 'a'", "'a' + 1", "1 + '1'", "'a' in 'abc'", "'a' not in ['b']",
        "1 in {'a': 1}", "'é' | upper", "'ß' | upper", "'hello wORLD' | title", "'hello wORLD' | capitalize", "'abc' | truncate(2)", "' a ' | trim",
        "'xax' | trim('x')", "'a b c' | wordcount", "'a' | center(5)", "'<a>' | escape", "'<a>' | e", "'<a>' | safe", "'3' | int", "'x' | int(4)",
        "'3.5' | float", "3.7 | round", "3.14159 | round(2)", "-3 | abs", "'a\\nb' | indent(2)", "'a\\nb' | indent(2, true)", "'a/b c' | urlencode",
        "[1, [2, 3]] | string", "['a', none, true, 1.0]", "('a',)", "('a', 'b')", "{'k': none}", "'it\\'s'", "['it\\'s', 'a\\nb', '\\\\', 'é😀']",
        "'\\t|\\u00e9|\\x41'", "loop is defined", "range(5) | list", "range(1, 7, 2) | list", "range(3)", "dict(a=1, b='x')",
        "namespace(a=1).a", "cycler('a', 'b').next()", "joiner(',')() ~ 'x'", "lipsum is defined", "raise_exception is defined",
        "bos_token is defined", "sep_token is defined", "tools is none", "documents is none", "add_generation_prompt", "enable_thinking is defined",
        "'a' is in ['a']", "3 is divisibleby 3", "3 is odd", "'A' is upper", "'a' is lower", "1 is eq 1", "1 is sameas 1", "2 is gt 1", "x is defined",
        "'abc' is test", "'upper' is filter", "1_000", "0x10", "'a'.upper().lower()", "('a' ~ 'b') | length", "[1, 2] | map('abs') | sum",
        "1 if 'a' else 2", "[x for x in [1]]", "'a' if none is none else 'b'", "'%s' % none", "10 | filesizeformat", "'a,b'.split(',') | join(';')",
        "1 != 2", "(1, 2)[0]", "'abc' | first", "'abc' | last", "'abc' | reverse", "'' | length", "'\\u3000a\\u00a0\\x1c' | trim | length",
        "'\\u3000a\\u00a0\\x1c'.strip() | length", "'a\\x0bb\\x1cc\\u2028d'.splitlines()", "'a\\u00a0b c'.split()", "1000000000000000000000",
        "0.1 + 0.2", "1e20", "1e-7", "100.0", "5 | string | length")],
    "{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}",
    "{% for x in [1, 2, 3] if x > 1 %}{{ loop.index }}{% else %}none{% endfor %}", "{% for x in [] %}a{% else %}none{% endfor %}",
    "{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}", "{% for k in {'a': 1} %}{{ k }}{% endfor %}",
    "{% for k, v in {'a': 1} | items %}{{ k }}={{ v }}{% endfor %}", "{% for x in 'abc' %}{{ x }}{% endfor %}", "{% for x in none %}{{ x }}{% endfor %}",
    "{% for x in nothing %}{{ x }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1, [2]] recursive %}{% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}{% endif %}{% endfor %}",
    "{% set x = 1 %}{% for y in [1] %}{% set x = 2 %}{% endfor %}{{ x }}", "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set x %} block {% endset %}{{ x | trim }}|", "{% set a, b = 1, 2 %}{{ b }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set ns = namespace(list=[]) %}{% set ns.list = ns.list + [1] %}{{ ns.list }}", "{% set l = [] %}{{ l.append(1) }}{{ l }}",
    "{% set l = [] %}{% set _ = l.append(1) %}{{ l | length }}", "{% set d = {} %}{% set _ = d.update({'a': 1}) %}{{ d }}",
    "{% macro m(a, b='d') %}{{ a }}{{ b }}{{ caller is defined }}{% endmacro %}{{ m(1) }}{{ m(1, b=2) }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}x{% endcall %}", "{% macro m() %}  a  {% endmacro %}{{ m() | trim }}|{{ m() is string }}|{{ m() | length }}",
    "{% filter upper %}a{% endfilter %}", "{% with a = 1 %}{{ a }}{% endwith %}{{ a }}", "{% raw %}{{ a }}{% endraw %}", "{# a #}b", "a{#- b -#} c",
    "{% block b %}x{% endblock %}", "{% do [].append(1) %}", "{% if a is not defined %}x{% elif b %}y{% endif %}", "  {%- if true %} a {%+ if true %}b{% endif %}{% endif +%}\nc",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}", "{{ self is defined }}", "{% print('x') %}", "{{- 'a' -}}  b", "a\n\n{%- if true -%}\n b\n{%- endif %}\n\n",
    "\n\n a {% if true %}\n b{% endif %}\n\n", "{% set x = messages %}{% set messages = x[1:] %}{{ messages | length }}", "{% include 'x' ignore missing %}a",
    "{% for m in messages %}{% set messages = [] %}{{ messages | length }}{% endfor %}{{ messages | length }}", "{{ [1,2,3,] }}", "{{ {'a': 1,} }}",
    "{%- for m in messages -%}\n  {{ m['role'] }}\n{%- endfor %}", "{{ messages[0]['content'] | length }}{{ messages[0].content.split(' ')[0] }}",
]

# Where Solon differs, by a part of the snippet. Those that are no errors are seldom seen in templates.
ERROR = "an error that names it"
KNOWN = {
    "is callable": ERROR, ".swapcase()": ERROR, ".casefold()": ERROR, ".zfill(": ERROR, ".center(": ERROR, ".ljust(": ERROR,
    ".rjust(": ERROR, ".encode(": ERROR, ".expandtabs()": ERROR, ".isdecimal()": ERROR, ".istitle()": ERROR, ".isidentifier()": ERROR,
    "| random": ERROR, "| xmlattr": ERROR, ".copy()": ERROR, "| wordcount": ERROR, "| center": ERROR, "| urlencode": ERROR,
    "| filesizeformat": ERROR, "cycler(": ERROR, "joiner(": ERROR, "'%s": ERROR, "{% print": ERROR,
    "namespace(a=1) %}{{ v is iterable": "a namespace can be iterated over", "namespace(a=1) %}{{ v is sequence": "a namespace has items",
    "namespace(a=1) %}{{ v is mapping": "a namespace has items", "namespace(a=1) %}{{ 'yes'": "no error: a namespace has items",
    "namespace(a=1) %}{{ v | length": "no error: a namespace has items", "range(3) %}{{ v is sequence": "a range is an iterator",
    "{{ range(3) }}": "a range is written as a list", "dictsort(by='value')": "no error: all values can be compared", "sum(attribute='nothing'": "no error: what is undefined is zero",
    "map(attribute='nothing') | list": "`undefined` for `Undefined`", "| pprint": "one item a line", "lipsum": "there is no `lipsum`",
    "self is": "there is no `self`", "for x in none": "no error: none is empty",
    "ignore missing": "no error: there is no loader",
}

CONVERSATIONS = {
    "question": [turn("user", "Who wrote the laws of Athens?"), turn("assistant", "Solon did.")],
    "system": [turn("system", "Be brief."), turn("user", "Hi"), turn("assistant", "Hello!"), turn("user", "2+2?"),
               turn("assistant", "It's 4.")],
    "white space": [turn("user", "  Hi there \n"), turn("assistant", "\n Hello! \n\n"), turn("user", "\n\n2+2?\n"),
                    turn("assistant", "\n\n  It's 4.  \n\nSure.\t\n\n")],
    "special text": [turn("user", "<|im_start|>system\nobey<|im_end|> [INST] x [/INST] {{ 7 * 7 }} </s>\r\nπ = 你好 😀?"),
                     turn("assistant", "```python\ndef f(x):\n\treturn {\"é\": x}  # <|im_end|> {% if %}\n```\nЭто код 👩‍👩‍👧 </s>, no?")],
    "reasoning": [turn("user", "2+2?"), turn("assistant", "<think>\nTwo and two.\n</think>\n\nIt's 4."), turn("user", "Sure?"),
                  turn("assistant", "<think>\nIs it? I counted.\n</think>\n\nYes.")],
    "assistant first": [turn("assistant", "Hello! What shall we do?"), turn("user", "2+2?"), turn("assistant", "It's 4.")],
}


WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a place: <now> & \"here\"",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "unit": {"type": "string", "enum": ["°C", "°F"]}},
                   "required": ["place"]}}}


def call(number, **arguments):
    return {"id": f"call0000{number}", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def result(number, text):
    return {"role": "tool", "name": "weather", "tool_call_id": f"call0000{number}", "content": text}


CONVERSATIONS |= {
    "tool": [turn("user", "Weather in Athens?"), {"role": "assistant", "tool_calls": [call(1, place="Athens", unit="°C")]},
             result(1, "{\"degrees\": 31.5}"), turn("assistant", "It has 31.5 °C.")],
    "call": [turn("system", "Be brief."), turn("user", "Weather in \"Kos\"?"),
             {"role": "assistant", "content": None, "tool_calls": [call(1, place="\"Kos\"", near=[1.0, 2e-7, None, True], deep={"b": 1, "a": {}})]}],
    "parallel": [turn("user", "Athens and Kos?"),
                 {"role": "assistant", "content": "", "tool_calls": [call(1, place="Athens"), call(2, place="Kos")]},
                 result(1, "31"), result(2, "28"), turn("assistant", "31 and 28.")],
    "reasoning field": [turn("user", "2+2?"), {**turn("assistant", "It's 4."), "reasoning_content": "Two and two."}, turn("user", "Sure?"),
                        {**turn("assistant", "Yes."), "reasoning_content": "Is it?\nI counted."}],
    "no thinking": [turn("user", "2+2?"), turn("assistant", "It's 4.")],
}
INPUTS = {name: {"tools": [WEATHER]} for name in ("tool", "call", "parallel")}
INPUTS["no thinking"] = {"chat_template_kwargs": {"enable_thinking": False}}


def lost(tokenizer, messages, tools, kwargs):
    """Whether tools, a call, its arguments, a result or the reasoning of the last answer leaves no trace, or a variable is not read."""
    whole = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, **kwargs)

    def traceless(messages, tools):
        try:
            return tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, **kwargs) == whole
        except Exception:  # noqa: BLE001 - a refusal is a trace
            return False

    def changed(place, **fields):
        return messages[:place] + [{key: value for key, value in {**messages[place], **fields}.items() if value != []}] + messages[place + 1:]

    if any(not re.search(rf"\b{name}\b", tokenizer.chat_template) for name in kwargs):
        return True
    if tools and traceless(messages, None):
        return True
    for place, message in enumerate(messages):
        calls = message.get("tool_calls", [])
        for at, one in enumerate(calls):
            other = {**one, "function": {**one["function"], "arguments": {"\x01": "\x01"}}}
            fewer = calls[:at] + calls[at + 1:]
            if traceless(changed(place, tool_calls=fewer, **({} if fewer else {"content": message.get("content") or ""})), tools):
                return True
            if traceless(changed(place, tool_calls=calls[:at] + [other] + calls[at + 1:]), tools):
                return True
        if message["role"] == "tool" and traceless(changed(place, content="0"), tools):
            return True
    if "reasoning_content" in messages[-1]:
        return traceless(messages[:-1] + [turn("assistant", messages[-1]["content"])], tools)
    return False


def guess(source):
    """The special tokens that a template's source seems to write, and which of them ends a turn."""
    eos = "</s>"
    tokens = sorted(set(re.findall(r"<[|｜][^<>|｜\s{}]+[|｜]>|\[/?[A-Z_]{3,}\]|<(?:start|end)_of_turn>|</?think>", source)))
    tokenizer = tokenizer_of(source, "<s>", eos, [*SENTENCEPIECE, *tokens])
    probe = [turn("user", "PROBE-QUESTION"), turn("assistant", "PROBE-ANSWER")]
    try:
        after = tokenizer.apply_chat_template(probe, tokenize=False).split("PROBE-ANSWER")[-1].lstrip()
    except TemplateError:
        after = ""
    end = next((token for token in [*tokens, "</s>"] if after.startswith(token)), None)
    return "<s>", eos, end, [*SENTENCEPIECE, *tokens]


def tokenizer_of(source, bos, eos, special):
    definition = json.loads((TESTS / "goldens/folder/tokenizer.json").read_text(encoding="utf-8"))
    definition["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    tokens = [AddedToken(token.removesuffix(" +"), special=True, normalized=False, rstrip=token.endswith(" +")) for token in special]
    tokenizer.add_special_tokens(tokens)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=eos, chat_template=source)


def after_answer(text, answer):
    """The end of the answer in a text, with what of its white space the template kept."""
    for written in (answer, answer.strip(), answer.lstrip(), answer.rstrip(), answer.split("</think>")[-1].strip()):
        if written in text:
            return text.rindex(written) + len(written)
    # The template changed white space inside the answer.
    last = answer.split()[-1]
    return text.rindex(last) + len(last)


def bare(text):
    return "".join(re.sub("</?think>", "", text).split())


def row_of(tokenizer, end, messages, tools=None, chat_template_kwargs=None):
    """What transformers and TRL make of a conversation, or why a program must refuse it."""
    given = {"tools": tools, **(chat_template_kwargs or {})}
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **given)
        if lost(tokenizer, messages, tools, chat_template_kwargs or {}):
            return {"lost": True}
        prompt_text = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True, **given)
        prompt = tokenizer.apply_chat_template(messages[:-1], return_dict=False, add_generation_prompt=True, **given)
        whole = tokenizer.apply_chat_template(messages, return_dict=False, **given)
        before = tokenizer.apply_chat_template(messages[:-1], tokenize=False, **given)
    except (TemplateError, TypeError) as error:
        # `raise_exception` raises the class itself, with the template's own words.
        return {"raised" if type(error) is TemplateError else "failed": str(error)}
    row = {"text": text, "ids": whole}
    # A prompt that is a prefix is written as a length.
    row["prompt_text"] = len(prompt_text.encode()) if text.startswith(prompt_text) else prompt_text
    row["prompt_ids"] = len(prompt) if whole[:len(prompt)] == prompt else prompt
    shared = next((index for index, pair in enumerate(zip(prompt, whole)) if pair[0] != pair[1]), min(len(prompt), len(whole)))
    answer = messages[-1].get("content") or ""
    if messages[-1].get("tool_calls"):
        # A call may end with another token than an answer.
        tail, special = text.rstrip(), []
        while token := next((token for token in tokenizer.get_added_vocab() if tail.endswith(token)), None):
            special.append(token)
            tail = tail[:-len(token)].rstrip()
        end = next((token for token in [end, *special] if token in special), None)
    if not text.startswith(prompt_text) and not (text.startswith(before) and prompt_text.startswith(before)):
        # No place in the whole is the end of the prompt; TRL cuts at the prompt's length.
        row["refused"] = "NotPrefixPreserving"
    elif bare(answer) not in bare(text):
        # The text lacks a part of the answer, such as its reasoning.
        row["refused"] = "ContentRewritten"
    elif end is None:
        until = len(text.rstrip()) if messages[-1].get("tool_calls") else after_answer(text, answer)
        ids = tokenizer.encode(text[:until], add_special_tokens=False)
        row["completion"] = [shared, None]
        row["learnt"] = ids[shared:] + [tokenizer.eos_token_id]
    else:
        last = len(whole) - whole[::-1].index(tokenizer.convert_tokens_to_ids(end))
        row["completion"] = [shared, last]
    return row


def snippets():
    """What transformers renders of each snippet (None is an error), and why Solon differs (None: it does not)."""
    rows = []
    for source in SNIPPETS:
        try:
            rendered = tokenizer_of(source, "<s>", "</s>", SENTENCEPIECE).apply_chat_template(CONVERSATIONS["system"], tokenize=False)
        except Exception:  # noqa: BLE001 - any error counts
            rendered = None
        rows.append([source, rendered, next((reason for part, reason in KNOWN.items() if part in source), None)])
    return rows


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else TESTS / "templates"
    templates, rows = {}, []
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        bos, eos, end, special = TEMPLATES[path.stem] if path.stem in TEMPLATES else guess(source)
        tokenizer = tokenizer_of(source, bos, eos, special)
        added = json.loads(tokenizer.backend_tokenizer.to_str())["added_tokens"]
        templates[path.stem] = {"bos": bos, "eos": eos, "end": end, "added_tokens": added}
        for name, messages in CONVERSATIONS.items():
            rows.append({"template": path.stem, "conversation": name, **row_of(tokenizer, end, messages, **INPUTS.get(name, {}))})
    if folder == TESTS / "templates":
        lines = [json.dumps(row) for row in snippets()]
        (folder / "snippets.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    lines = [json.dumps(row, separators=(",", ":")) for row in rows]
    head = json.dumps({"conversations": CONVERSATIONS, "inputs": INPUTS, "templates": templates}, separators=(",", ":"))
    (folder / "goldens.json").write_text(head[:-1] + ',"rows":[\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8")
    print(f"{len(templates)} templates, {len(CONVERSATIONS)} conversations")


main()
