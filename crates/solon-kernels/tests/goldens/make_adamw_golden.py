"""Makes adamw.json: parameters and moments after each of ten steps of torch.optim.AdamW.

Run:
    pip install torch==2.15.0
    python make_adamw_golden.py

Everything runs in f64 on inputs that are multiples of 2^-10, so that they are exact in f32. `gradient_scale` multiplies the
gradients before torch sees them: clipping by global norm. Some gradients are zero, and some parameters get none but zeros.
"""

import json
import pathlib
import random

import torch

STEPS = 10
PARAMETERS = 12
CASES = {
    "defaults": dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, gradient_scale=1.0),
    "large steps": dict(lr=0.25, betas=(0.5, 0.75), eps=1e-3, weight_decay=0.125, gradient_scale=1.0),
    "no decay, clipped": dict(lr=0.0625, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, gradient_scale=0.25),
}


def numbers(rng, count, low, high):
    return [rng.randint(low * 1024, high * 1024) / 1024 for _ in range(count)]


def run(name, case):
    rng = random.Random(name)
    start = numbers(rng, PARAMETERS, -3, 3)
    gradients = [numbers(rng, PARAMETERS, -2, 2) for _ in range(STEPS)]
    for step in gradients:
        step[0] = 0.0
        step[rng.randrange(PARAMETERS)] = 0.0
    scale = case.pop("gradient_scale")
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = torch.optim.AdamW([parameter], foreach=False, **case)
    steps = []
    for gradient in gradients:
        parameter.grad = scale * torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        state = optimizer.state[parameter]
        steps.append({
            "gradient": gradient,
            "parameter": parameter.tolist(),
            "first": state["exp_avg"].tolist(),
            "second": state["exp_avg_sq"].tolist(),
        })
    (beta1, beta2) = case["betas"]
    settings = {
        "learning_rate": case["lr"], "beta1": beta1, "beta2": beta2, "eps": case["eps"],
        "weight_decay": case["weight_decay"], "gradient_scale": scale,
    }
    return {"name": name, "settings": settings, "start": start, "steps": steps}


golden = {"torch": torch.__version__, "cases": [run(name, case) for name, case in CASES.items()]}
path = pathlib.Path(__file__).with_name("adamw.json")
path.write_text(json.dumps(golden, indent=1) + "\n")
print(f"wrote {path}")
