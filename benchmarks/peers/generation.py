"""Peers that generate: transformers, and llama.cpp's server inside xllamacpp. Greedy, and no request ends early.

Rates are new tokens over the seconds of prompts and new tokens together, after one run that warms up.
"""

import time

PROMPT_IDS = (100, 49000)  # SmolLM2's ordinary tokens


def transformers(model, batch, prompt_tokens, new_tokens, threads, compiled=None):
    """`generate` with bf16 weights and a static cache, compiled at batch 1.

    Tried, in new tokens per second: at batch 1 a dynamic cache 31 (18 in f32), static 34, static and compiled 39; at
    batch 8 dynamic 133 (66 in f32), static 148, static and compiled 143.
    """
    import torch
    from transformers import AutoModelForCausalLM, CompileConfig, logging

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    draw = torch.Generator().manual_seed(1)
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    flags = dict(
        do_sample=False, min_new_tokens=new_tokens, max_new_tokens=new_tokens, pad_token_id=0, cache_implementation="static",
    )  # fmt: skip
    if batch == 1 if compiled is None else compiled:
        flags["compile_config"] = CompileConfig(mode="default")
        flags["compile_config"]._compile_all_devices = True
    else:
        flags["disable_compile"] = True
    for _ in range(2):
        ids = torch.randint(*PROMPT_IDS, (batch, prompt_tokens), generator=draw)
        start = time.monotonic()
        with torch.inference_mode():
            made = net.generate(ids, attention_mask=torch.ones_like(ids), **flags)
        seconds = time.monotonic() - start
        assert made.shape == (batch, prompt_tokens + new_tokens)
    return {"tokens_per_s": batch * new_tokens / seconds}


def llama_cpp(gguf, batch, prompt_tokens, new_tokens, threads):
    """One request of `batch` prompts, each with a slot of its own.

    Tried at batch 8, in new tokens per second: 130 so, 116 with physical batches of 2,048 and 106 to 122 without flash
    attention; at batch 2 a request for each prompt from a thread of its own gave the same 106. The wheel is built for
    AVX2, whatever the processor: a llama.cpp built for the machine comes in with --llama-batched-bench.
    """
    import random

    import xllamacpp

    draw = random.Random(1)
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_parallel = batch
    params.n_ctx = 256 * batch
    params.cont_batching = True
    params.cache_prompt, params.cache_ram_mib, params.n_ctx_checkpoints = False, 0, 0
    params.fit_params, params.verbosity = False, 1
    server = xllamacpp.Server(params)
    request = {"n_predict": new_tokens, "ignore_eos": True, "temperature": 0, "cache_prompt": False}
    for _ in range(2):
        prompts = [[draw.randrange(*PROMPT_IDS) for _ in range(prompt_tokens)] for _ in range(batch)]
        start = time.monotonic()
        answer = server.handle_completions(request | {"prompt": prompts if batch > 1 else prompts[0]})
        seconds = time.monotonic() - start
        # `usage` is the first prompt's alone.
        assert len(answer["choices"]) == batch and answer["usage"]["completion_tokens"] == new_tokens, answer
    return {"tokens_per_s": batch * new_tokens / seconds}


def llama_cpp_build(threads):
    """What the wheel's llama.cpp was built for."""
    import xllamacpp

    return xllamacpp.get_system_info().strip(" |\n")
