"""Makes the golden tensors that hold Solon's decoder to PyTorch and transformers.

Run: python make_decoder_goldens.py          (torch, transformers, peft and safetensors installed; CPU is enough)

Every model is tiny and random: f32, eager attention, eval mode, fixed seeds. Each folder is a Hugging Face model
(config.json, model.safetensors) and a golden.safetensors, in which, for the sequences `a` (11 tokens) and `b` (7),
each run alone, unpadded:

    {a,b}.input_ids   i32 [T]            {a,b}.logits    f32 [T, vocab]
    {a,b}.hidden      f32 [T, hidden]    after the final norm
    {a,b}.weights     f32 [T-1]          w_t below       {a,b}.logprobs  f32 [T-1]  log p(input_ids[t+1] | ..t), nats
    loss              f32 [1]            -sum over a and b of w_t * logprobs_t
    grad.NAME         f32                d loss / d parameter NAME (as in model.safetensors)

`lora/` is a PEFT adapter on llama-tied: same tensors, gradients of the adapter's matrices only.
`llama-score/` has a scalar head: {a,b}.values f32 [T] (score of the final-norm hidden state at every position),
{a,b}.reward f32 [1] (what transformers returns: the last token), {a,b}.weights f32 [T], loss = sum of w_t * values_t.

llama3-untied, llama-yarn and qwen2 carry `rope_theta`/`rope_scaling` at the top of config.json, as published checkpoints do;
the others keep `rope_parameters`, as transformers 5 writes it. Both must load.
"""

import json
import pathlib
import shutil

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
VOCAB, HIDDEN = 67, 32
LENGTHS = {"a": 11, "b": 7}
SHAPE = dict(
    vocab_size=VOCAB,
    hidden_size=HIDDEN,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    attn_implementation="eager",
    bos_token_id=1,
    eos_token_id=2,
)
LLAMA3 = dict(
    rope_type="llama3",
    # The thresholds fall at wavelengths 16 and 64, so with head_dim 16 all three pieces of the rule are exercised.
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
YARN = dict(
    rope_type="yarn",
    # With head_dim 16 the first pair is kept, the next two are mixed and the others divided.
    factor=2.0,
    beta_fast=4.0,
    original_max_position_embeddings=64,
)


def config(kind, head_dim, tied, rope=None, **more):
    """A configuration of transformers' class `kind`; `rope` may change the frequencies."""
    rope = dict(rope or {"rope_type": "default"}, rope_theta=10000.0)
    return kind(**SHAPE, head_dim=head_dim, tie_word_embeddings=tied, rope_parameters=rope, **more)


def randomise(model, generator):
    """Weights N(0, 0.08), biases N(0, 0.08), norms 1 + N(0, 0.1): every gradient is well away from zero."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_norm = parameter.ndim == 1 and name.endswith("weight")
        parameter.data = 1.0 + 0.1 * noise if is_norm else 0.08 * noise


def sequences(generator):
    """Two random token sequences."""
    return {k: torch.randint(0, VOCAB, (n,), generator=generator) for k, n in LENGTHS.items()}


def weights(generator, scored):
    """One fixed weight per scored position, of either sign."""
    return {k: torch.randn(scored(n), generator=generator) for k, n in LENGTHS.items()}


def language_model_golden(model, gradients_of, seed):
    """Loss, log-probs, logits and gradients. `gradients_of` maps a parameter's name in the model to its stored name."""
    generator = torch.Generator().manual_seed(seed)
    tokens, weight = sequences(generator), weights(generator, lambda n: n - 1)
    out, loss = {}, 0.0
    model.zero_grad()
    for key, ids in tokens.items():
        result = model(input_ids=ids[None], output_hidden_states=True, use_cache=False)
        logits = result.logits[0]
        logprobs = torch.log_softmax(logits[:-1], dim=-1).gather(1, ids[1:, None])[:, 0]
        loss = loss - (weight[key] * logprobs).sum()
        out |= {
            f"{key}.input_ids": ids.to(torch.int32),
            f"{key}.logits": logits,
            f"{key}.hidden": result.hidden_states[-1][0],
            f"{key}.weights": weight[key],
            f"{key}.logprobs": logprobs,
        }
    return finish(model, loss, out, gradients_of)


def score_model_golden(model, seed):
    """Values at every position, the reward at the last, gradients of the weighted sum of values."""
    generator = torch.Generator().manual_seed(seed)
    tokens, weight = sequences(generator), weights(generator, lambda n: n)
    out, loss = {}, 0.0
    for key, ids in tokens.items():
        hidden = model.model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
        values = model.score(hidden)[:, 0]
        reward = model(input_ids=ids[None], use_cache=False).logits[0]
        assert torch.allclose(reward[0], values[-1], atol=1e-6), "transformers reads the reward at the last token"
        loss = loss + (weight[key] * values).sum()
        out |= {
            f"{key}.input_ids": ids.to(torch.int32),
            f"{key}.hidden": hidden,
            f"{key}.weights": weight[key],
            f"{key}.values": values,
            f"{key}.reward": reward,
        }
    return finish(model, loss, out, lambda name: name)


def finish(model, loss, out, gradients_of):
    """Runs the backward pass and collects the gradients."""
    loss.backward()
    out["loss"] = loss.reshape(1)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.abs().max() > 1e-4, f"{name}: gradient too small to test anything"
            out[f"grad.{gradients_of(name)}"] = parameter.grad
    return {name: tensor.detach().clone().contiguous() for name, tensor in out.items()}


def save_model(model, folder, classic_rope):
    """Writes config.json and model.safetensors, and nothing that names this machine."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    written = json.loads(path.read_text())
    written.pop("_name_or_path", None)
    if classic_rope and "rope_parameters" in written:
        rope = written.pop("rope_parameters")
        written["rope_theta"] = rope.pop("rope_theta")
        written["rope_scaling"] = None if rope["rope_type"] == "default" else rope
        written["torch_dtype"] = written.pop("dtype")
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")


def check_reload(kind, folder, golden):
    """The folder on disk, read back by transformers, gives the golden logits."""
    model = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    ids = golden["a.input_ids"].long()[None]
    with torch.no_grad():
        if "a.logits" in golden:
            assert torch.equal(model(input_ids=ids).logits[0], golden["a.logits"]), folder
        else:
            assert torch.equal(model(input_ids=ids).logits[0], golden["a.reward"]), folder


def make_lora(base, seed):
    """A PEFT adapter with random A and B on every linear layer of llama-tied."""
    torch.manual_seed(seed)
    settings = peft.LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(base, settings).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            # PEFT starts B at zero, which would leave A without a gradient.
            parameter.data = 0.08 * torch.randn(parameter.shape, generator=generator)
    folder = HERE / "lora"
    shutil.rmtree(folder, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = "llama-tied"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    written = json.loads(path.read_text())
    written["base_model_name_or_path"] = "llama-tied"
    # PEFT writes a set: its order would change from run to run.
    written["target_modules"] = sorted(written["target_modules"])
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")

    golden = language_model_golden(model, lambda name: name.replace(".default", ""), seed=11)
    saved = load_file(folder / "adapter_model.safetensors")
    graded = {name.removeprefix("grad.") for name in golden if name.startswith("grad.")}
    assert graded == set(saved), "gradients carry the adapter file's names"
    save_file(golden, folder / "golden.safetensors")


def main():
    """Makes every folder."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    t = transformers
    models = [
        ("llama-tied", t.LlamaForCausalLM, config(t.LlamaConfig, 8, True), False),
        ("llama3-untied", t.LlamaForCausalLM, config(t.LlamaConfig, 16, False, LLAMA3), True),
        ("qwen2", t.Qwen2ForCausalLM, config(t.Qwen2Config, 8, True), True),
        ("qwen3", t.Qwen3ForCausalLM, config(t.Qwen3Config, 8, False), False),
        ("llama-score", t.LlamaForSequenceClassification, config(t.LlamaConfig, 8, True, num_labels=1), False),
        ("llama-yarn", t.LlamaForCausalLM, config(t.LlamaConfig, 16, True, YARN), True),
    ]
    for number, (name, kind, settings, classic_rope) in enumerate(models):
        model = kind(settings).to(torch.float32).eval()
        randomise(model, torch.Generator().manual_seed(100 + number))
        save_model(model, HERE / name, classic_rope)
        if name == "llama-score":
            golden = score_model_golden(model, seed=11)
        else:
            golden = language_model_golden(model, lambda parameter: parameter, seed=11)
        graded = {g.removeprefix("grad.") for g in golden if g.startswith("grad.")}
        assert graded == set(load_file(HERE / name / "model.safetensors")), f"{name}: a parameter has no gradient"
        save_file(golden, HERE / name / "golden.safetensors")
        check_reload(kind, HERE / name, golden)

    base = transformers.LlamaForCausalLM.from_pretrained(HERE / "llama-tied", attn_implementation="eager").eval()
    make_lora(base, seed=200)


if __name__ == "__main__":
    main()
