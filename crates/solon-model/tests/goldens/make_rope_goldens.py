"""Makes the golden frequencies that hold Solon's RoPE scaling to transformers.

Run: python make_rope_goldens.py                          (torch and transformers installed; CPU is enough)

`rope.json` is a list of cases:

    name                what is special about it
    config              the fields of config.json that decide, as a published model has them
    inv_freq            f32, what transformers turns the position by, [head_dim / 2]
    attention_factor    what transformers multiplies cosine and sine by
    context             the most tokens for which these numbers hold in transformers, whatever else was run before

The numbers come from LlamaRotaryEmbedding of the configuration that transformers makes of `config`, after a forward
pass of one token and after one of `context` tokens: a type whose numbers changed in between would stop the script.
"""

import json
import pathlib

import torch
import transformers
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

HERE = pathlib.Path(__file__).parent
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
SHORT = [1.0 + 0.05 * place for place in range(8)]
LONG = [1.5 * 1.3**place for place in range(8)]
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG}


def shape(head_dim=16, context=131072, theta=10000.0, **more):
    """Fields of a config.json; `rope_theta` stands at the top, as most published models have it."""
    return {"head_dim": head_dim, "max_position_embeddings": context, "rope_theta": theta, **more}


CASES = {
    "default": shape(),
    "default, theta in rope_parameters": {
        "head_dim": 64,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
    "linear": shape(rope_scaling={"type": "linear", "factor": 2.5}),
    "llama3": shape(
        head_dim=64,
        theta=500000.0,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
    "dynamic": shape(context=4096, rope_scaling={"type": "dynamic", "factor": 2.5}),
    "yarn, as Qwen's cards say": shape(head_dim=128, theta=1000000.0, rope_scaling=YARN),
    "yarn, both names of the type": shape(rope_scaling={**YARN, "type": "yarn"}),
    "yarn in rope_parameters": {
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "rope_parameters": {**YARN, "rope_theta": 500000.0},
    },
    "yarn, thresholds": shape(head_dim=64, rope_scaling={**YARN, "beta_fast": 24, "beta_slow": 2.5}),
    "yarn, thresholds of 0 are the defaults": shape(head_dim=64, rope_scaling={**YARN, "beta_fast": 0, "beta_slow": 0}),
    "yarn, not truncated": shape(head_dim=64, rope_scaling={**YARN, "truncate": False}),
    "yarn, truncate null is not truncated": shape(head_dim=64, rope_scaling={**YARN, "truncate": None}),
    "yarn, attention_factor": shape(rope_scaling={**YARN, "attention_factor": 0.75}),
    "yarn, attention_factor before mscale": shape(
        rope_scaling={**YARN, "attention_factor": 1.25, "mscale": 2.0, "mscale_all_dim": 0.5}
    ),
    "yarn, mscale": shape(rope_scaling={**YARN, "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.1}),
    "yarn, mscale alone does nothing": shape(rope_scaling={**YARN, "mscale": 0.5}),
    "yarn, mscale of 0 does nothing": shape(rope_scaling={**YARN, "mscale": 0.0, "mscale_all_dim": 1.0}),
    "yarn, factor null is the ratio": shape(rope_scaling={**YARN, "factor": None}),
    "yarn, factor 1": shape(rope_scaling={**YARN, "factor": 1.0}),
    "yarn, original context absent": shape(context=16384, rope_scaling={"type": "yarn", "factor": 8.0}),
    "yarn, original context at the top": shape(rope_scaling=YARN, original_max_position_embeddings=8192),
    "yarn, one place of the ramp": shape(head_dim=16, rope_scaling={**YARN, "beta_fast": 2, "beta_slow": 2}),
    "yarn, original context below every wavelength": shape(
        head_dim=8, context=64, rope_scaling={**YARN, "original_max_position_embeddings": 4}
    ),
    "longrope": shape(rope_scaling={**LONGROPE, "original_max_position_embeddings": 4096}),
    "longrope, original context at the top": shape(rope_scaling=LONGROPE, original_max_position_embeddings=4096),
    "longrope, factor": shape(
        rope_scaling={**LONGROPE, "original_max_position_embeddings": 4096, "factor": 8.0}
    ),
    "longrope, attention_factor": shape(
        rope_scaling={**LONGROPE, "original_max_position_embeddings": 4096, "attention_factor": 1.5}
    ),
    "longrope, original context absent": shape(context=512, rope_scaling=LONGROPE),
}


def numbers(config, context):
    """Frequencies and attention factor after one token, and after `context` tokens."""
    rotary = LlamaRotaryEmbedding(config)
    values = torch.zeros(1)
    seen = []
    for length in (1, context):
        rotary(values, torch.arange(length)[None])
        seen.append((rotary.inv_freq.clone(), float(rotary.attention_scaling)))
    (before, factor), (after, factor_after) = seen
    assert torch.equal(before, after) and factor == factor_after, "the numbers changed on the way"
    return before, factor


def main():
    """Writes rope.json."""
    cases = []
    for name, fields in CASES.items():
        head_dim = fields["head_dim"]
        config = transformers.LlamaConfig(
            **json.loads(json.dumps(fields)), hidden_size=4 * head_dim, num_attention_heads=4
        )
        context = fields["max_position_embeddings"]
        if "longrope" in name:
            context = config.rope_parameters["original_max_position_embeddings"]
            context = fields.get("original_max_position_embeddings", context)
        frequencies, attention_factor = numbers(config, context)
        assert len(frequencies) == head_dim // 2, name
        cases.append(
            {
                "name": name,
                "config": fields,
                "inv_freq": frequencies.tolist(),
                "attention_factor": attention_factor,
                "context": context,
            }
        )
    (HERE / "rope.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
