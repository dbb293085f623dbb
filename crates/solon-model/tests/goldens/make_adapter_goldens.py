"""Makes the golden adapters that hold Solon's reading of PEFT's settings to PEFT.

Run: python make_adapter_goldens.py          (torch, transformers, peft and safetensors installed; CPU is enough)

Each folder of `adapters/` is an adapter on llama-tied as PEFT saves it, with random A and B, and

    merged.safetensors    f32, the matrices that `merge_and_unload` changed

`adapters/ranks` also has a golden.safetensors, as make_decoder_goldens.py describes it.
"""

import json
import shutil

import peft
import torch
import transformers
from safetensors.torch import save_file

from make_decoder_goldens import HERE, language_model_golden

CASES = {
    # The first pattern that matches counts; a key is a regular expression on the end of a module's path.
    "ranks": dict(
        r=4,
        lora_alpha=8,
        target_modules="all-linear",
        rank_pattern={"layers.1.self_attn.q_proj": 6, r"self_attn\.(q|k)_proj": 2, "down_proj": 3},
        alpha_pattern={r"^model\.layers\.0\.mlp\..*": 20, "q_proj": 1.5},
    ),
    "rslora": dict(
        r=3,
        lora_alpha=6,
        use_rslora=True,
        target_modules=["q_proj", "down_proj"],
        rank_pattern={"down_proj": 5},
        alpha_pattern={"layers.1.mlp.down_proj": 2.5},
    ),
    "one-layer": dict(
        r=2,
        lora_alpha=4,
        target_modules=["q_proj", "v_proj", "up_proj"],
        exclude_modules=["v_proj"],
        layers_to_transform=1,
        layers_pattern="layers",
    ),
    # A module that is named whole is adapted whatever layers_to_transform says.
    "layers": dict(
        r=2,
        lora_alpha=4,
        target_modules=["o_proj", "model.layers.1.mlp.gate_proj"],
        layers_to_transform=[0],
    ),
    "expression": dict(
        r=2,
        lora_alpha=4,
        target_modules=r"model\.layers\.\d+\.(self_attn\.[kv]_proj|mlp\.up_proj)",
        exclude_modules=r".*\.0\..*k_proj",
    ),
}


def make(name, settings, seed):
    """One adapter."""
    folder = HERE / "adapters" / name
    shutil.rmtree(folder, ignore_errors=True)
    base = transformers.LlamaForCausalLM.from_pretrained(HERE / "llama-tied", attn_implementation="eager").eval()
    before = {key: value.clone() for key, value in base.state_dict().items()}
    torch.manual_seed(seed)
    model = peft.get_peft_model(base, peft.LoraConfig(lora_dropout=0.0, task_type="CAUSAL_LM", **settings)).eval()
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            parameter.data = 0.08 * torch.randn(parameter.shape, generator=generator)
    model.peft_config["default"].base_model_name_or_path = "llama-tied"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    written = json.loads(path.read_text())
    written["base_model_name_or_path"] = "llama-tied"
    if isinstance(written["target_modules"], list):
        written["target_modules"] = sorted(written["target_modules"])
    # Patterns keep their order: it decides.
    path.write_text(json.dumps(written, indent=2) + "\n")
    if name == "ranks":
        golden = language_model_golden(model, lambda key: key.replace(".default", ""), seed=11)
        save_file(golden, folder / "golden.safetensors")
    merged = model.merge_and_unload().state_dict()
    assert set(merged) == set(before)
    changed = {key: value.contiguous() for key, value in merged.items() if not torch.equal(value, before[key])}
    assert changed, name
    save_file(changed, folder / "merged.safetensors")


def main():
    """Makes every folder."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for number, (name, settings) in enumerate(CASES.items()):
        make(name, settings, 300 + number)


if __name__ == "__main__":
    main()
