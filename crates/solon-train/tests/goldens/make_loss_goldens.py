"""Makes losses.json: what PyTorch and TRL compute for the losses and the PPO arithmetic of solon-train.

Run:
    pip install torch trl
    pip install --no-deps --target DIR trl==0.26.2      # a release that still has PPO; TRL 1.16 has none
    python make_loss_goldens.py DIR/trl/experimental/ppo/ppo_trainer.py

Each case says where its numbers come from:
    trl         TRL's own code is run. `RewardTrainer.compute_loss` is called; DPO and PPO keep their losses inline in
                the trainer, so the very lines are cut from the installed source, between two markers, and executed here.
    formula     the formula, written below in torch. For what TRL does not have: soft labels (its `sigmoid` ignores
                label_smoothing), the dual clip, k2, OpenRLHF's whitening, the adaptive controller.
Gradients are autograd's. Everything runs in f64 on inputs that are multiples of 2^-10, so that they are exact in f32.
"""

import ast
import collections
import inspect
import json
import pathlib
import sys
import textwrap
import types

import torch
import torch.nn.functional as F
import trl
from trl.trainer import dpo_trainer
from trl.trainer.reward_trainer import RewardTrainer

HERE = pathlib.Path(__file__).parent
CASES = []


def grid(*values):
    """An f64 tensor, rounded to multiples of 2^-10."""
    return torch.round(torch.tensor(values, dtype=torch.float64) * 1024) / 1024


def normal(n, scale, shift, generator):
    """Random numbers on the grid."""
    return grid(*(torch.randn(n, generator=generator, dtype=torch.float64) * scale + shift).tolist())


def leaf(tensor):
    """A copy that collects a gradient."""
    return tensor.clone().requires_grad_(True)


def case(kind, source, settings, inputs, expected):
    """Adds a case; tensors become lists."""
    plain = lambda d: {k: v.detach().tolist() if torch.is_tensor(v) else v for k, v in d.items()}
    CASES.append(dict(kind=kind, source=source, settings=settings, inputs=plain(inputs), expected=plain(expected)))


def cut(source, first, last):
    """The lines of `source` from the one containing `first` up to, not including, the one containing `last`."""
    lines = source.splitlines()
    start = next(i for i, line in enumerate(lines) if first in line)
    stop = next(i for i, line in enumerate(lines) if i > start and last in line)
    return compile(textwrap.dedent("\n".join(lines[start:stop])), f"trl: {first}", "exec")


def identity_accelerator():
    """One process: gathering is doing nothing."""
    return types.SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)


# --- SFT ---------------------------------------------------------------------------------------------------------


def sft(generator):
    """-sum / num_items, as transformers' ForCausalLMLoss with num_items_in_batch."""
    logprobs = leaf(-normal(9, 1.5, 3.0, generator).abs())
    loss = -logprobs.sum() / 14
    loss.backward()
    case("sft", "formula", dict(normaliser=14), dict(logprobs=logprobs), dict(loss=loss, d_logprobs=logprobs.grad))


# --- DPO ---------------------------------------------------------------------------------------------------------


def dpo_inputs(generator):
    """Five pairs; the last has policy = reference."""
    reference_chosen, reference_rejected = normal(5, 9, -60, generator), normal(5, 9, -55, generator)
    moved = grid(1, 1, 1, 1, 0)
    return dict(
        policy_chosen=leaf(reference_chosen + moved * normal(5, 4, 1, generator)),
        policy_rejected=leaf(reference_rejected + moved * normal(5, 4, -1, generator)),
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
        chosen_tokens=torch.tensor([12, 7, 30, 4, 9]),
        rejected_tokens=torch.tensor([10, 15, 8, 22, 9]),
        probability=grid(1, 1, 1, 1, 1),
    )


def dpo_expected(loss, inputs):
    """Value and gradients."""
    loss.backward()
    return dict(loss=loss, d_chosen=inputs["policy_chosen"].grad, d_rejected=inputs["policy_rejected"].grad)


def dpo_trl(kind, beta, label_smoothing, generator):
    """TRL's lines, from the log-ratios to the metrics."""
    inputs = dpo_inputs(generator)
    source = inspect.getsource(dpo_trainer.DPOTrainer._compute_loss)
    mask = torch.zeros(10, 30, dtype=torch.float64)
    for row, length in enumerate(torch.cat([inputs["chosen_tokens"], inputs["rejected_tokens"]])):
        mask[row, :length] = 1
    trainer = types.SimpleNamespace(
        beta=beta,
        label_smoothing=label_smoothing,
        loss_types=[kind],
        loss_weights=[1.0],
        f_divergence_type="reverse_kl",
        use_weighting=False,
        accelerator=identity_accelerator(),
        _metrics=dict(train=collections.defaultdict(list)),
    )
    names = dict(
        vars(dpo_trainer),
        self=trainer,
        mode="train",
        completion_mask=mask,
        chosen_logps=inputs["policy_chosen"],
        rejected_logps=inputs["policy_rejected"],
        ref_chosen_logps=inputs["reference_chosen"],
        ref_rejected_logps=inputs["reference_rejected"],
    )
    exec(cut(source, "chosen_logratios = chosen_logps - ref_chosen_logps", "if self.aux_loss_enabled"), names)
    exec(cut(source, "# Rewards for chosen and rejected completions", "if return_outputs:"), names)
    metrics = {name: values[0] for name, values in trainer._metrics["train"].items()}
    settings = dict(loss=kind, beta=beta, label_smoothing=label_smoothing, normaliser=5)
    case("dpo", "trl", settings, inputs, dict(dpo_expected(names["loss"], inputs), metrics=metrics))


def dpo_soft(kind, beta, label_smoothing, generator):
    """E over the label of the penalty, cDPO's smoothing applied to the label."""
    inputs = dict(dpo_inputs(generator), probability=grid(1.0, 0.75, 0.5, 0.1, 0.0))
    chosen = inputs["policy_chosen"] - inputs["reference_chosen"]
    rejected = inputs["policy_rejected"] - inputs["reference_rejected"]
    p, e = inputs["probability"], label_smoothing
    if kind == "ipo":
        chosen, rejected = chosen / inputs["chosen_tokens"], rejected / inputs["rejected_tokens"]
    h = chosen - rejected
    logistic = lambda h: -F.logsigmoid(beta * h)
    penalty = dict(
        sigmoid=logistic,
        ipo=lambda h: (h - 1 / (2 * beta)) ** 2,
        hinge=lambda h: torch.relu(1 - beta * h),
        robust=lambda h: ((1 - e) * logistic(h) - e * logistic(-h)) / (1 - 2 * e),
    )[kind]
    if kind != "robust":
        p = p * (1 - e) + (1 - p) * e
    loss = (p * penalty(h) + (1 - p) * penalty(-h)).sum() / 8
    settings = dict(loss=kind, beta=beta, label_smoothing=label_smoothing, normaliser=8)
    case("dpo", "formula", settings, inputs, dpo_expected(loss, inputs))


# --- Reward model ------------------------------------------------------------------------------------------------


def reward_inputs(generator):
    """Five pairs, the last one tied."""
    tied = grid(1, 1, 1, 1, 0)
    return dict(
        chosen=leaf(normal(5, 2, 0.5, generator) * tied),
        rejected=leaf(normal(5, 2, -0.5, generator) * tied),
        probability=grid(1, 1, 1, 1, 1),
    )


def reward_trl(margin, centering, generator):
    """`RewardTrainer.compute_loss` on a model that returns the given rewards."""
    inputs = reward_inputs(generator)
    trainer = types.SimpleNamespace(
        model=types.SimpleNamespace(training=True),
        args=types.SimpleNamespace(center_rewards_coefficient=centering or None),
        accelerator=identity_accelerator(),
        _total_train_tokens=0,
        _tp_size=1,
        _metrics=dict(train=collections.defaultdict(list)),
    )
    logits = torch.cat([inputs["chosen"], inputs["rejected"]])[:, None]
    batch = dict(attention_mask=torch.ones(1))
    if margin:
        inputs["margin"] = batch["margin"] = grid(0, 0.5, 1, 0.25, -0.5)
    loss = RewardTrainer.compute_loss(trainer, lambda **_: types.SimpleNamespace(logits=logits), batch)
    loss.backward()
    metrics = {name: values[0] for name, values in trainer._metrics["train"].items() if name != "num_tokens"}
    expected = dict(loss=loss, d_chosen=inputs["chosen"].grad, d_rejected=inputs["rejected"].grad, metrics=metrics)
    case("reward", "trl", dict(centering=centering, normaliser=5), inputs, expected)


def reward_soft(generator):
    """Soft labels, with margin and centering."""
    inputs = dict(reward_inputs(generator), probability=grid(0.9, 0.6, 0.5, 0.2, 0.0), margin=grid(0, 0.5, 1, 0.25, -0.5))
    chosen, rejected, p = inputs["chosen"], inputs["rejected"], inputs["probability"]
    d = chosen - rejected - inputs["margin"]
    terms = -p * F.logsigmoid(d) - (1 - p) * F.logsigmoid(-d) + 0.01 * (chosen + rejected) ** 2
    loss = terms.sum() / 8
    loss.backward()
    expected = dict(loss=loss, d_chosen=chosen.grad, d_rejected=rejected.grad)
    case("reward", "formula", dict(centering=0.01, normaliser=8), inputs, expected)


# --- PPO ---------------------------------------------------------------------------------------------------------


def ppo_functions(source):
    """TRL's module-level masked_mean, masked_var and masked_whiten."""
    wanted = {"masked_mean", "masked_var", "masked_whiten"}
    body = [node for node in ast.parse(source).body if getattr(node, "name", None) in wanted]
    assert len(body) == len(wanted), "masked_whiten has moved"
    names = dict(torch=torch)
    exec(compile(ast.Module(body, []), "trl: masked_whiten", "exec"), names)
    return names


def ppo_losses_trl(source, generator):
    """TRL's lines from the clipped values to the policy loss; one unpadded row."""
    n = 24
    old_logprobs, old_values = -normal(n, 1, 2, generator).abs(), normal(n, 1, 0, generator)
    logprobs = leaf(old_logprobs + normal(n, 0.3, 0, generator))
    values = leaf(old_values + normal(n, 0.4, 0, generator))
    advantages, returns = normal(n, 1, 0, generator), normal(n, 1, 0, generator)
    names = ppo_functions(source) | dict(
        args=types.SimpleNamespace(cliprange=0.2, cliprange_value=0.2, vf_coef=0.1),
        vpred=values[None],
        mb_values=old_values[None],
        mb_return=returns[None],
        mb_advantage=advantages[None],
        mb_logprobs=old_logprobs[None],
        new_logprobs=logprobs[None],
        padding_mask=torch.zeros(1, n, dtype=torch.bool),
        padding_mask_p1=torch.zeros(1, n, dtype=torch.bool),
        micro_batch_inds=slice(None),
    )
    exec(cut(source, "vpredclipped = torch.clamp(", "loss = pg_loss + args.vf_coef"), names)
    exec(cut(source, "pg_clipfrac = masked_mean(", "prob_dist ="), names)
    exec(cut(source, "approxkl = 0.5 *", "approxkl_stats["), names)
    (names["pg_loss"] + names["vf_loss"]).backward()
    case(
        "policy",
        "trl",
        dict(clip_low=0.2, clip_high=0.2, dual_clip=None, normaliser=n),
        dict(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages),
        dict(
            loss=names["pg_loss"],
            d_logprobs=logprobs.grad,
            metrics=dict(
                clip_fraction=names["pg_clipfrac"].item(),
                approximate_kl=names["approxkl"].item(),
                ratio_mean=names["ratio"].mean().item(),
                ratio_variance=names["ratio"].var(unbiased=False).item(),
            ),
        ),
    )
    case(
        "value",
        "trl",
        dict(clip=0.2, normaliser=n),
        dict(values=values, old_values=old_values, returns=returns),
        dict(
            loss=names["vf_loss"],
            d_values=values.grad,
            metrics=dict(clip_fraction=names["vf_clipfrac"].item(), mean_value=values.mean().item()),
        ),
    )


def policy_dual_clip(generator):
    """OpenRLHF's PolicyLoss: bounded log-ratio, asymmetric clip, dual clip."""
    n, low, high, dual = 16, 0.2, 0.3, 3.0
    old_logprobs = -normal(n, 1, 4, generator).abs()
    logprobs = leaf(old_logprobs + normal(n, 1.2, 0, generator))
    advantages = normal(n, 1, -0.5, generator)
    ratio = (logprobs - old_logprobs).clamp(-20, 20).exp()
    surrogate = torch.min(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    held = torch.max(surrogate, dual * advantages)
    loss = -torch.where(advantages < 0, held, surrogate).sum() / 20
    loss.backward()
    assert ((ratio > dual) & (advantages < 0)).any(), "no token reaches the dual clip"
    case(
        "policy",
        "formula",
        dict(clip_low=low, clip_high=high, dual_clip=dual, normaliser=20),
        dict(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages),
        dict(loss=loss, d_logprobs=logprobs.grad),
    )


def rollout_trl(source, estimator, generator):
    """TRL's lines from the KL to the returns, one unpadded row at a time; then masked_whiten over all tokens."""
    lengths, gamma, lam, kl_coef = [6, 3, 1, 8], 0.98, 0.95, 0.05
    n = sum(lengths)
    logprobs = -normal(n, 1, 2, generator).abs()
    reference, values = logprobs + normal(n, 0.5, 0, generator), normal(n, 0.7, 0.2, generator)
    scores = normal(len(lengths), 1, 0.5, generator)
    functions = ppo_functions(source)
    rows = collections.defaultdict(list)
    for row in range(len(lengths)):
        part = slice(sum(lengths[:row]), sum(lengths[: row + 1]))
        # An answer that fills its row: TRL's index of the last token is length - 1, and the score goes there.
        names = functions | dict(
            args=types.SimpleNamespace(
                kl_estimator=estimator, kl_coef=kl_coef, whiten_rewards=False, gamma=gamma, lam=lam
            ),
            logprobs=logprobs[part][None],
            ref_logprobs=reference[part][None],
            values=values[part][None],
            scores=scores[row : row + 1],
            sequence_lengths=torch.tensor([lengths[row] - 1]),
            sequence_lengths_p1=torch.tensor([lengths[row]]),
            responses=torch.zeros(1, lengths[row]),
        )
        names["self"] = types.SimpleNamespace(args=names["args"])
        exec(cut(source, "# 4. compute rewards", "advantages = masked_whiten("), names)
        for name in ["kl", "rewards", "advantages", "returns"]:
            rows[name].append(names[name][0])
    out = {name: torch.cat(parts) for name, parts in rows.items()}
    everything = torch.ones(n, dtype=torch.bool)
    case(
        "rollout",
        "trl",
        dict(kl_estimator=estimator, kl_coefficient=kl_coef, gamma=gamma, lam=lam),
        dict(logprobs=logprobs, reference_logprobs=reference, values=values, scores=scores, lengths=lengths),
        out
        | dict(
            whitened_advantages=functions["masked_whiten"](out["advantages"], everything),
            whitened_rewards=functions["masked_whiten"](out["rewards"], everything, shift_mean=False),
            mean_kl=torch.stack([kl.sum() for kl in rows["kl"]]).mean(),
        ),
    )


def openrlhf_pieces(generator):
    """k2 and the clamp at 10; biased variance with a floor; the adaptive controller of TRL 0.11."""
    logprobs, reference = normal(6, 4, -6, generator), normal(6, 4, -6, generator)
    log_ratio = logprobs - reference
    estimates = dict(k1=log_ratio, k2=log_ratio**2 / 2, k3=(-log_ratio).exp() - 1 + log_ratio)
    for name, kl in estimates.items():
        case(
            "kl",
            "formula",
            dict(kl_estimator=name, clamp=10),
            dict(logprobs=logprobs, reference_logprobs=reference),
            dict(kl=kl.clamp(-10, 10)),
        )
    values = normal(11, 2, 1, generator)
    centred = values - values.mean()
    whitened = centred * (centred**2).mean().clamp(1e-8).rsqrt()
    case("whiten_openrlhf", "formula", {}, dict(values=values), dict(whitened=whitened))

    coefficient, coefficients, observed = 0.2, [], [60.0, 6.0, 5.4, 0.0, -3.0, 7.5]
    for kl in observed:
        error = min(max(kl / 6 - 1, -0.2), 0.2)
        coefficient *= 1 + error * 256 / 10000
        coefficients.append(coefficient)
    settings = dict(coefficient=0.2, target=6, horizon=10000, sequences=256)
    case("controller", "formula", settings, dict(kl=observed), dict(coefficients=coefficients))


def main():
    """Makes every case."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    ppo_source = pathlib.Path(sys.argv[1]).read_text()
    generator = torch.Generator().manual_seed(7)
    sft(generator)
    for kind in ["sigmoid", "ipo", "hinge"]:
        dpo_trl(kind, 0.1, 0.0, generator)
    dpo_trl("robust", 0.3, 0.1, generator)
    for kind in ["sigmoid", "ipo", "hinge", "robust"]:
        dpo_soft(kind, 0.2, 0.1, generator)
    for margin, centering in [(False, 0.0), (True, 0.0), (True, 0.01)]:
        reward_trl(margin, centering, generator)
    reward_soft(generator)
    ppo_losses_trl(ppo_source, generator)
    policy_dual_clip(generator)
    for estimator in ["k1", "k3"]:
        rollout_trl(ppo_source, estimator, generator)
    openrlhf_pieces(generator)
    made_by = dict(script="make_loss_goldens.py", torch=torch.__version__, trl=trl.__version__, trl_ppo="0.26.2")
    # One case a line: a change shows as the lines it touches.
    lines = ",\n".join(json.dumps(c) for c in CASES)
    (HERE / "losses.json").write_text(f'{{"made_by": {json.dumps(made_by)}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
