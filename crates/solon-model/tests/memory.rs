//! What training is said to take, against what it takes. One test alone in its process, because it counts the process's
//! arrays.

use solon_kernels::{Precision, memory, threads};
use solon_model::config::{Architecture, RopeScaling};
use solon_model::parameters::Projection;
use solon_model::{
    Adapter, Backend, Cpu, Decoder, Keep, LoraSettings, ModelConfig, PackedBatch, Training,
    fixed_training_bytes, training_bytes_per_token,
};

/// Large enough that every array lives in a slab, and that rounding arrays up to whole pages does not matter.
fn config(intermediate_size: usize, qk_norm: bool) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: 2000,
        hidden_size: 192,
        intermediate_size,
        num_layers: 5,
        num_heads: 6,
        num_kv_heads: 2,
        head_dim: 32,
        rms_norm_eps: 1e-5,
        rope_theta: 1e4,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 4096,
        tie_word_embeddings: true,
        qkv_bias: false,
        qk_norm,
    }
}

/// The most bytes that are held in a forward and backward pass over `tokens`, beside what was held before.
fn peak_of_pass(decoder: &Decoder<Cpu>, adapter: Option<&Adapter<Cpu>>, tokens: u32, keep: Keep) -> usize {
    let mut gradients = decoder.zero_gradients(adapter, None);
    let sequences: Vec<Vec<u32>> = (0..tokens / 256).map(|i| (i..i + 256).collect()).collect();
    let (batch, _) = PackedBatch::of(&sequences);
    let backend = decoder.backend();
    let before = memory::in_use().now;
    memory::reset_peak();
    let forward = decoder.forward(adapter, &batch, keep);
    let dhidden = backend.zeros(backend.len(&forward.hidden));
    decoder.backward(adapter, &batch, forward, &dhidden, &mut gradients);
    memory::in_use().peak - before
}

#[test]
fn training_takes_what_it_is_said_to_take() {
    // With more threads, more tasks have scratch of their own, which is no part of what a token takes.
    threads::with_threads(1, || {
        // With a narrow MLP, attention holds most.
        for (mlp, qk_norm, rank) in
            [(512, false, None), (64, true, None), (64, false, Some(16)), (512, true, Some(16))]
        {
            let (config, backend) = (config(mlp, qk_norm), Cpu::new(Precision::F32));
            let start = memory::in_use().now;
            let training = if rank.is_none() { Training::Full } else { Training::Frozen };
            let make = |_: &str, shape: &[usize]| Ok::<_, ()>(vec![0.01; shape.iter().product()]);
            let decoder = Decoder::build(backend, config.clone(), training, 1024, make).unwrap();
            let adapter = rank.map(|rank| {
                let settings = LoraSettings::new(rank, 32.0, Projection::ALL);
                Adapter::fresh(&backend, &config, settings, |_, _| 0.5)
            });
            let adapter = adapter.as_ref();
            if rank.is_none() {
                // Gradients and both moments.
                let trained = [(); 3].map(|()| decoder.zero_gradients(None, None));
                let taken = memory::in_use().now - start;
                let said = fixed_training_bytes(&backend, &config, None) - 4 * solon_model::LOGIT_ROWS * 2000;
                assert!(taken.abs_diff(said) < said / 50, "weights: {taken} bytes, said {said}");
                drop(trained);
            }
            for keep in [Keep::Activations, Keep::Inputs] {
                let [short, long] = [512, 1024].map(|tokens| peak_of_pass(&decoder, adapter, tokens, keep));
                let taken = (long - short) as f64 / 512.0;
                let said = training_bytes_per_token(&config, rank, keep) as f64;
                let case = format!("{keep:?}, rank {rank:?}, MLP {mlp}, norms of q and k {qk_norm}");
                assert!(
                    (0.95..=1.02).contains(&(taken / said)),
                    "{case}: {taken} bytes a token, said {said}"
                );
            }
        }
    });
}
