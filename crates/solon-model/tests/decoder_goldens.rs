//! The decoder against PyTorch and transformers: logits, loss, log-probs and every gradient of tiny random models
//! (`goldens/make_decoder_goldens.py`), on both backends.

use solon_kernels::Precision;
use solon_model::backend::Cpu;
use solon_model::weights::{Checkpoint, peft};
use solon_model::{
    Adapter, Backend, CachedRows, Decoder, Gradients, Keep, PackedBatch, Reference, ScalarHead, Scored,
    Training, Weights,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Golden = BTreeMap<String, Vec<f32>>;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

fn golden(name: &str) -> Golden {
    let bytes = std::fs::read(folder(name).join("golden.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let values = match view.dtype() {
                safetensors::Dtype::F32 => {
                    view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
                }
                safetensors::Dtype::I32 => {
                    view.data().as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect()
                }
                safetensors::Dtype::I64 => {
                    view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()
                }
                other => panic!("{name}: {other:?}"),
            };
            (name, values)
        })
        .collect()
}

fn ids(golden: &Golden, name: &str) -> Vec<u32> {
    golden[name].iter().map(|x| *x as u32).collect()
}

fn decoder<B: Backend>(backend: &B, name: &str, training: Training) -> (Decoder<B>, Checkpoint) {
    let mut checkpoint = Checkpoint::open(&folder(name)).unwrap();
    let mut tensors = std::mem::take(&mut checkpoint.tensors);
    let decoder = Decoder::build(backend.clone(), checkpoint.config.clone(), training, 64, |name, _| {
        tensors.remove(name).map(|t| t.data).ok_or_else(|| name.to_owned())
    })
    .unwrap();
    (decoder, checkpoint)
}

#[track_caller]
fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(1e-3_f32, |a, b| a.max(b.abs()));
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * scale, "{what}: largest difference {worst}, largest value {scale}");
}

/// Both golden sequences in one pack, each scored on every next token, with the golden loss weights.
struct Case {
    batch: PackedBatch,
    scored: Scored,
    weights: Vec<f32>,
}

fn case(golden: &Golden) -> Case {
    let mut batch = PackedBatch::default();
    let mut scored = Scored::default();
    let mut weights = Vec::new();
    for sequence in ["a", "b"] {
        let tokens = ids(golden, &format!("{sequence}.input_ids"));
        let root = batch.push(&tokens, None);
        for at in 1..tokens.len() {
            scored.push(&tokens, &batch.rows(root), at);
        }
        weights.extend(&golden[&format!("{sequence}.weights")]);
    }
    Case { batch, scored, weights }
}

fn check_language_model<B: Backend>(backend: &B, name: &str, adapter: Option<&str>, tolerance: f32) {
    let golden = golden(adapter.unwrap_or(name));
    let training = if adapter.is_some() { Training::Frozen } else { Training::Full };
    let (decoder, checkpoint) = decoder(backend, name, training);
    let adapter = adapter.map(|adapter| {
        let file = peft::AdapterFile::open(&folder(adapter)).unwrap();
        Adapter::from_file(backend, &checkpoint.config, &file).unwrap()
    });
    let Case { batch, scored, weights } = case(&golden);
    let forward = decoder.forward(adapter.as_ref(), &batch, Keep::Activations);
    let logits = decoder.logits(&forward.hidden);
    let logits = backend.download(&logits);
    let expected: Vec<f32> = [golden["a.logits"].clone(), golden["b.logits"].clone()].concat();
    assert_close("logits", &logits, &expected, tolerance);

    let mut gradients = decoder.zero_gradients(adapter.as_ref(), None);
    let mut dhidden = backend.zeros(backend.len(&forward.hidden));
    let dlogprobs: Vec<f32> = weights.iter().map(|w| -w).collect();
    let log_probs =
        decoder.log_probs_grad(&forward.hidden, &scored, 1.0, &dlogprobs, &mut dhidden, &mut gradients);
    let expected: Vec<f32> = [golden["a.logprobs"].clone(), golden["b.logprobs"].clone()].concat();
    assert_close("log-probs", &log_probs, &expected, tolerance);
    decoder.backward(adapter.as_ref(), &batch, forward, &dhidden, &mut gradients);
    check_gradients(backend, &golden, &gradients, tolerance);
}

fn check_gradients<B: Backend>(backend: &B, golden: &Golden, gradients: &Gradients<B>, tolerance: f32) {
    let mut seen = 0;
    let model = gradients.model.iter().flat_map(|m| m.named());
    let lora = gradients.lora.iter().flat_map(|l| l.named());
    for (name, gradient) in model.chain(lora) {
        let key = match golden.contains_key(&format!("grad.{name}")) {
            true => format!("grad.{name}"),
            false => format!("grad.base_model.model.{name}.weight"),
        };
        assert_close(&name, &backend.download(gradient), &golden[&key], tolerance);
        seen += 1;
    }
    let expected = golden.keys().filter(|k| k.starts_with("grad.") && !k.contains("score")).count();
    assert_eq!(seen, expected, "every golden gradient was compared");
}

fn check_scalar_head<B: Backend>(backend: &B, tolerance: f32) {
    let golden = golden("llama-score");
    let (decoder, checkpoint) = decoder(backend, "llama-score", Training::Full);
    let head = ScalarHead::new(backend, checkpoint.score.unwrap().data);
    let mut batch = PackedBatch::default();
    let (mut values, mut weights) = (Vec::new(), Vec::new());
    let mut last = Vec::new();
    for sequence in ["a", "b"] {
        batch.push(&ids(&golden, &format!("{sequence}.input_ids")), None);
        last.push(batch.len() as u32 - 1);
        values.extend(&golden[&format!("{sequence}.values")]);
        weights.extend(&golden[&format!("{sequence}.weights")]);
    }
    let rows: Vec<u32> = (0..batch.len() as u32).collect();
    let forward = decoder.forward(None, &batch, Keep::Activations);
    assert_close("values", &decoder.scalars(&forward.hidden, &rows, &head), &values, tolerance);
    let rewards = [golden["a.reward"][0], golden["b.reward"][0]];
    assert_close("rewards", &decoder.scalars(&forward.hidden, &last, &head), &rewards, tolerance);
    let mut gradients = decoder.zero_gradients(None, Some(&head));
    let mut dhidden = backend.zeros(backend.len(&forward.hidden));
    decoder.scalars_grad(&forward.hidden, &rows, &head, &weights, &mut dhidden, &mut gradients);
    decoder.backward(None, &batch, forward, &dhidden, &mut gradients);
    assert_close(
        "score",
        &backend.download(gradients.scalar.as_ref().unwrap()),
        &golden["grad.score.weight"],
        tolerance,
    );
    check_gradients(backend, &golden, &gradients, tolerance);
}

/// f32 sums in another order than PyTorch's.
const F32: f32 = 2e-5;

#[test]
fn llama_tied() {
    check_language_model(&Reference, "llama-tied", None, F32);
    check_language_model(&Cpu::new(Precision::F32), "llama-tied", None, F32);
}

#[test]
fn llama3_scaled_rope_untied() {
    check_language_model(&Reference, "llama3-untied", None, F32);
    check_language_model(&Cpu::new(Precision::F32), "llama3-untied", None, F32);
}

#[test]
fn yarn_scaled_rope() {
    check_language_model(&Reference, "llama-yarn", None, F32);
    check_language_model(&Cpu::new(Precision::F32), "llama-yarn", None, F32);
}

#[test]
fn qwen2_biases() {
    check_language_model(&Reference, "qwen2", None, F32);
    check_language_model(&Cpu::new(Precision::F32), "qwen2", None, F32);
}

#[test]
fn qwen3_head_norms() {
    check_language_model(&Reference, "qwen3", None, F32);
    check_language_model(&Cpu::new(Precision::F32), "qwen3", None, F32);
}

#[test]
fn lora_in_activation_space() {
    check_language_model(&Reference, "llama-tied", Some("lora"), F32);
    check_language_model(&Cpu::new(Precision::F32), "llama-tied", Some("lora"), F32);
}

#[test]
fn lora_with_its_own_rank_and_strength_for_each_module() {
    check_language_model(&Reference, "llama-tied", Some("adapters/ranks"), F32);
    check_language_model(&Cpu::new(Precision::F32), "llama-tied", Some("adapters/ranks"), F32);
}

#[test]
fn scalar_head() {
    check_scalar_head(&Reference, F32);
    check_scalar_head(&Cpu::new(Precision::F32), F32);
}

#[test]
fn bf16_products_stay_within_their_rounding() {
    for name in ["llama-tied", "qwen3"] {
        check_language_model(&Cpu::new(Precision::Bf16), name, None, 0.04);
    }
}

/// Weights in int8 are another model, a little: how far from the golden one is a property of its weights. Both backends agree
/// on which.
#[test]
fn int8_weights_stay_near_full_ones() {
    for name in ["llama-tied", "llama3-untied", "qwen2", "qwen3"] {
        let golden = golden(name);
        let batch = case(&golden).batch;
        let expected = [golden["a.logits"].clone(), golden["b.logits"].clone()].concat();
        let training = Training::None(Weights::Int8);
        let (plain, _) = decoder(&Reference, name, training);
        let plain = plain.logits(&plain.hidden_states(None, &batch));
        assert_close(name, &plain, &expected, 0.02);
        assert!(
            plain.iter().zip(&expected).any(|(a, b)| (a - b).abs() > 1e-4),
            "{name}: nothing was rounded"
        );
        for (precision, tolerance) in [(Precision::F32, F32), (Precision::Bf16, 0.04)] {
            let (fast, _) = decoder(&Cpu::new(precision), name, training);
            assert_close(name, &fast.logits(&fast.hidden_states(None, &batch)), &plain, tolerance);
        }
    }
}

/// Sequences with so many tokens that even a tiny model's products are shared between threads.
fn shared_between_threads() -> (PackedBatch, Scored) {
    let sequences: Vec<Vec<u32>> =
        (0..20).map(|i| (0..30).map(|at| (7 * i + at * at) % 50).collect()).collect();
    let (batch, rows) = PackedBatch::of(&sequences);
    let mut scored = Scored::default();
    for (sequence, rows) in sequences.iter().zip(&rows) {
        (1..30).for_each(|at| scored.push(sequence, rows, at));
    }
    (batch, scored)
}

#[test]
fn threads_change_no_bit_of_int8_logits() {
    let run = |threads| {
        solon_kernels::threads::with_threads(threads, || {
            let (decoder, _) = decoder(&Cpu::new(Precision::auto()), "qwen2", Training::None(Weights::Int8));
            let (batch, _) = shared_between_threads();
            decoder.logits(&decoder.hidden_states(None, &batch))
        })
    };
    assert_eq!(run(1), run(2));
}

/// Every form in which weights run forward alone.
const FORWARD_ONLY: [(Precision, Weights); 4] = [
    (Precision::F32, Weights::Full),
    (Precision::Bf16, Weights::Full),
    (Precision::F32, Weights::Int8),
    (Precision::Bf16, Weights::Int8),
];

/// A shared prompt with two answers gives the same bits as each sequence alone, and as a cache filled piece by piece.
#[test]
fn packing_sharing_and_caching_change_no_bit() {
    for (precision, weights) in FORWARD_ONLY {
        let backend = Cpu::new(precision);
        let (decoder, _) = decoder(&backend, "qwen3", Training::None(weights));
        let (prompt, first, second) = ([5, 9, 3, 44, 7, 8, 21], [4, 2, 60], [33, 1]);
        let width = decoder.config().hidden_size;

        let mut shared = PackedBatch::default();
        shared.push(&[1, 2, 3], None);
        let root = shared.push(&prompt, None);
        shared.push(&first, Some(root));
        shared.push(&second, Some(root));
        let together = decoder.hidden_states(None, &shared);

        let mut alone = PackedBatch::default();
        alone.push(&[&prompt[..], &second[..]].concat(), None);
        let alone = decoder.hidden_states(None, &alone);
        assert_eq!(together[13 * width..], alone[7 * width..], "{precision:?} {weights:?}: answer");
        assert_eq!(together[3 * width..10 * width], alone[..7 * width], "{precision:?} {weights:?}: prompt");

        let mut cache = decoder.new_cache();
        let head = backend.add_segment(&mut cache, 7);
        let tail = backend.add_segment(&mut cache, 2);
        let mut last = backend.zeros(0);
        let steps: [(&[u32], usize, usize, Vec<(usize, usize)>); 4] = [
            (&prompt[..4], 0, head, vec![]),
            (&prompt[4..], 4, head, vec![]),
            (&second[..1], 7, tail, vec![(head, 7)]),
            (&second[1..], 8, tail, vec![(head, 7)]),
        ];
        for (tokens, position, segment, ancestors) in steps {
            let mut rows = CachedRows::default();
            rows.push(tokens, position, segment, ancestors);
            last = decoder.forward_cached(None, &mut cache, &rows);
        }
        assert_eq!(last[..], alone[8 * width..], "{precision:?} {weights:?}: cache");
    }
}

/// Sequences at random, many with beginnings in common: packed together, alone, and piece by piece from a cache that is cut
/// anywhere and holds more than is seen, every hidden state is the same bits.
#[test]
fn random_packings_and_caches_change_no_bit() {
    for (precision, weights) in FORWARD_ONLY {
        let backend = Cpu::new(precision);
        let (decoder, _) = decoder(&backend, "qwen3", Training::None(weights));
        let (width, vocab) = (decoder.config().hidden_size, decoder.config().vocab_size as f64);
        let draws = solon_draws::Draws::new(3, "packings");
        for round in 0..6_u64 {
            let draw = |i: u64, below: usize| (draws.index(round).uniform(i) * below as f64) as usize;
            let token = |i: u64| (draws.index(round).uniform(1000 + i) * vocab) as u32;
            let stem: Vec<u32> = (0..40).map(token).collect();
            let sequences: Vec<Vec<u32>> = (0..7)
                .map(|i| {
                    let own = 1 + draw(10 + i, 12);
                    stem[..draw(i, 41)]
                        .iter()
                        .copied()
                        .chain((0..own as u64).map(|j| token(100 * (i + 1) + j)))
                        .collect()
                })
                .collect();
            let (pack, rows) = PackedBatch::of(&sequences);
            let together = decoder.hidden_states(None, &pack);
            for (i, (sequence, rows)) in sequences.iter().zip(&rows).enumerate() {
                let mut alone = PackedBatch::default();
                alone.push(sequence, None);
                let alone = decoder.hidden_states(None, &alone);
                for (at, row) in rows.iter().enumerate() {
                    let row = *row as usize;
                    assert_eq!(
                        together[row * width..(row + 1) * width],
                        alone[at * width..(at + 1) * width],
                        "{precision:?} {weights:?}, round {round}, sequence {i}, token {at}"
                    );
                }
                let mut cache = decoder.new_cache();
                let mut ancestors = Vec::new();
                let mut at = 0;
                while at < sequence.len() {
                    let len = (1 + draw(50 + at as u64, 9)).min(sequence.len() - at);
                    let unseen = draw(300 + at as u64, 4);
                    let segment = backend.add_segment(&mut cache, len + unseen);
                    let mut cached = CachedRows::default();
                    cached.push(&sequence[at..at + len], at, segment, ancestors.clone());
                    let states = decoder.forward_cached(None, &mut cache, &cached);
                    assert_eq!(
                        states[..],
                        alone[at * width..(at + len) * width],
                        "{precision:?} {weights:?}, cached from {at}"
                    );
                    if unseen > 0 {
                        let mut other = CachedRows::default();
                        other.push(&stem[..unseen], at + len, segment, ancestors.clone());
                        decoder.forward_cached(None, &mut cache, &other);
                    }
                    ancestors.push((segment, len));
                    at += len;
                }
            }
        }
    }
}

/// Threads, and running blocks once more instead of keeping their activations, change no bit of any gradient.
#[test]
fn threads_and_recomputation_change_no_gradient() {
    let run = |threads, keep| {
        solon_kernels::threads::with_threads(threads, || {
            let backend = Cpu::new(Precision::auto());
            let (decoder, _) = decoder(&backend, "qwen2", Training::Full);
            let (batch, scored) = shared_between_threads();
            let weights: Vec<f32> = (0..scored.len()).map(|i| (i as f32 * 0.7).sin()).collect();
            let forward = decoder.forward(None, &batch, keep);
            let mut gradients = decoder.zero_gradients(None, None);
            let mut dhidden = backend.zeros(forward.hidden.len());
            decoder.log_probs_grad(&forward.hidden, &scored, 1.0, &weights, &mut dhidden, &mut gradients);
            decoder.backward(None, &batch, forward, &dhidden, &mut gradients);
            gradients.model.unwrap().named().into_iter().map(|(_, g)| g.clone()).collect::<Vec<_>>()
        })
    };
    assert_eq!(run(1, Keep::Activations), run(2, Keep::Activations));
    assert_eq!(run(1, Keep::Activations), run(2, Keep::Inputs));
}
