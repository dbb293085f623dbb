//! Sharing prefixes, cached prompts and dropped prompts change no bit of a result.

use solon_draws::Draws;
use solon_infer::batch::{Batch, BatchSettings, Finished, Sequence};
use solon_infer::engine::Engine;
use solon_infer::generate::{Completion, Finish, Request, Settings};
use solon_infer::prefixes::{KEPT, PromptTokens, Sharing};
use solon_infer::score::ScoreItem;
use solon_kernels::Precision;
use solon_model::backend::Reference;
use solon_model::config::{Architecture, ModelConfig, RopeScaling};
use solon_model::{AnswerPack, Backend, Cpu, Decoder, Training, Weights};
use solon_records::SamplingSettings;
use std::sync::Arc;

const VOCAB: usize = 50;

fn decoder<B: Backend>(backend: B) -> Decoder<B> {
    let config = ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: VOCAB,
        hidden_size: 16,
        intermediate_size: 24,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 4,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 1500,
        tie_word_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
    };
    let make = |name: &str, shape: &[usize]| {
        let key = Draws::new(1, "sharing").item(name);
        let values = (0..shape.iter().product::<usize>() as u64).map(|i| key.normal(i) as f32 * 0.4);
        Ok::<_, std::convert::Infallible>(values.collect())
    };
    let Ok(decoder) = Decoder::build(backend, config, Training::None(Weights::Full), 1500, make);
    decoder
}

fn tokens(draws: Draws, len: usize) -> Vec<u32> {
    (0..len as u64).map(|i| draws.below(i, VOCAB) as u32).collect()
}

fn settings(slots: usize, max_new_tokens: usize) -> Settings<'static> {
    Settings {
        sampling: SamplingSettings::of_length(max_new_tokens),
        stop_ids: &[7],
        stop_text: None,
        slots,
        logprob_temperature: 0.8,
    }
}

/// Random prompts that share a prefix of some length with one of two stems, or with the prompt before.
fn prompts(draws: Draws, count: usize, longest: usize) -> Vec<Vec<u32>> {
    let stems = [0, 1].map(|stem| tokens(Draws::new(stem, "stem"), longest));
    let mut prompts: Vec<Vec<u32>> = Vec::new();
    for i in 0..count as u64 {
        let draws = draws.index(i);
        let before = match (draws.below(0, 4), prompts.last()) {
            (0, Some(last)) => last,
            (stem, _) => &stems[stem % 2],
        };
        let own = tokens(draws.item("own"), draws.below(1, 12));
        let mut prompt = [&before[..draws.below(2, before.len() + 1)], &own].concat();
        prompt.push(3);
        prompts.push(prompt);
    }
    prompts
}

/// Log-probs of completions as training's packed pass computes them.
fn packed<B: Backend>(
    decoder: &Decoder<B>,
    prompt: &[u32],
    completion: &[u32],
    temperature: f32,
) -> Vec<f32> {
    let AnswerPack { pack, scored, .. } = AnswerPack::of([(prompt, completion)]);
    decoder.log_probs(&decoder.hidden_states(None, &pack), &scored, temperature)
}

fn generate_anew<B: Backend>(decoder: &Decoder<B>, requests: &[Request], new: usize) -> Vec<Completion> {
    Engine::new(decoder, None, Sharing::Off).generate(requests, &settings(1, new), &mut |_| {})
}

/// Calls of all kinds on one engine. Each is compared with the same call on an engine that shares nothing, and with the
/// packed pass.
fn check<B: Backend>(backend: B, longest: usize, rounds: u64, budgets: &[Sharing]) {
    let decoder = decoder(backend);
    for sharing in budgets {
        let mut engine = Engine::new(&decoder, None, *sharing);
        for round in 0..rounds {
            let draws = Draws::new(2, "calls").index(round);
            let requests: Vec<Request> = (0..)
                .zip(prompts(draws, 9, longest))
                .map(|(i, prompt)| Request { prompt, draws: draws.item("sample").index(i) })
                .collect();
            let new = 1 + draws.below(0, 6);
            let completions = engine.generate(&requests, &settings(1 + draws.below(1, 9), new), &mut |_| {});
            assert!(completions == generate_anew(&decoder, &requests, new), "{sharing:?}, round {round}");
            for (request, made) in requests.iter().zip(&completions) {
                assert_eq!(made.logprobs, packed(&decoder, &request.prompt, &made.token_ids, 0.8));
            }
            let items: Vec<ScoreItem> = (0..)
                .zip(prompts(draws.item("items"), 9, longest))
                .map(|(i, prompt)| {
                    let completions =
                        (0..3).map(|c| tokens(draws.index(i).index(c), draws.index(i).below(c, 5)));
                    ScoreItem { prompt, completions: completions.collect() }
                })
                .collect();
            let mut heard = 0;
            let scores = engine.score(&items, 0.8, &mut |n| heard += n);
            assert_eq!(heard, items.len());
            for (item, scores) in items.iter().zip(&scores) {
                for (completion, scores) in item.completions.iter().zip(scores) {
                    let expected = packed(&decoder, &item.prompt, completion, 0.8);
                    assert_eq!(*scores, expected, "{sharing:?}, round {round}");
                }
            }
        }
    }
}

#[test]
fn sharing_changes_no_bit() {
    let budgets = [Sharing::Off, Sharing::UpTo(0), Sharing::UpTo(120), Sharing::UpTo(400), KEPT];
    check(Cpu::new(Precision::F32), 90, 6, &budgets);
    check(Cpu::new(Precision::Bf16), 90, 6, &budgets);
    check(Reference, 40, 1, &budgets[2..]);
}

/// Prompts that take several steps while other requests run.
#[test]
fn long_prompts_in_pieces_change_no_bit() {
    check(Cpu::new(Precision::F32), 1400, 1, &[KEPT]);
    check(Cpu::new(Precision::Bf16), 1400, 1, &[Sharing::UpTo(1000)]);
}

/// A critique's preamble, a request and an answer; then the revision that continues from them.
#[test]
fn a_prompt_is_computed_once() {
    let decoder = decoder(Cpu::new(Precision::auto()));
    let preamble = tokens(Draws::new(3, "preamble"), 100);
    // The first token of its own distinguishes each critique from the others.
    let own = |i: u32| [vec![i], tokens(Draws::new(3, "own").index(u64::from(i)), 29)].concat();
    let critiques: Vec<Vec<u32>> = (0..8).map(|i| [&preamble[..], &own(i)].concat()).collect();
    let revisions: Vec<Vec<u32>> = (0..)
        .zip(&critiques)
        .map(|(i, critique)| [&critique[..], &tokens(Draws::new(3, "revise").index(i), 40)].concat())
        .collect();
    let requests = |prompts: &[Vec<u32>]| -> Vec<Request> {
        prompts.iter().map(|p| Request { prompt: p.clone(), draws: Draws::new(4, "sample") }).collect()
    };
    let run = |sharing, slots| {
        let mut engine = Engine::new(&decoder, None, sharing);
        let mut ask = |prompts: &[Vec<u32>]| {
            engine.generate(&requests(prompts), &settings(slots, 3), &mut |_| {});
            engine.prompt_tokens()
        };
        [ask(&critiques), ask(&revisions), ask(&critiques)]
    };
    for slots in [1, 3, 8] {
        let anew = run(Sharing::Off, slots).map(|tokens| tokens.computed);
        assert_eq!(anew, [8 * 130, 8 * 300, 8 * 430]);
        let [first, second, third] = run(KEPT, slots);
        assert_eq!(first, PromptTokens { computed: 100 + 8 * 30, found: 7 * 100 });
        // A prompt's last token is computed for each request, because the next token is sampled from its output.
        assert_eq!(second, PromptTokens { computed: first.computed + 8 * 41, found: first.found + 8 * 129 });
        assert_eq!(third, PromptTokens { computed: second.computed + 8, found: second.found + 8 * 129 });
    }
    let items: Vec<ScoreItem> = critiques
        .iter()
        .map(|p| ScoreItem { prompt: p.clone(), completions: vec![vec![1], vec![2]] })
        .collect();
    let mut engine = Engine::new(&decoder, None, KEPT);
    engine.score(&items[..4], 1.0, &mut |_| {});
    engine.score(&items[4..], 1.0, &mut |_| {});
    assert_eq!(engine.prompt_tokens(), PromptTokens { computed: 100 + 8 * 31, found: 7 * 100 });
}

/// Requests that join at any step, leave before their end, have settings of their own, or want their prompt read.
fn check_batch<B: Backend>(backend: B, sharing: Sharing) {
    let decoder = decoder(backend);
    let mut engine = Engine::new(&decoder, None, sharing);
    let draws = Draws::new(5, "batch");
    let sequences: Vec<Sequence> = (0..)
        .zip(prompts(draws, 24, 700))
        .map(|(i, prompt)| {
            let draws = draws.item("own").index(i);
            // Some outgrow several segments.
            let new = [0, 3, 70, 260][draws.below(0, 4)];
            let read_prompt = new == 0 || draws.below(1, 3) == 0;
            let temperature = [0.0, 0.7, 1.5][draws.below(2, 3)];
            let sampling = Arc::new(SamplingSettings { temperature, ..SamplingSettings::of_length(new) });
            Sequence { prompt, draws, sampling, read_prompt, likeliest: draws.below(3, 4) }
        })
        .collect();
    let settings = BatchSettings { slots: 5, stop_ids: &[7], logprob_temperature: 0.8 };
    let mut batch = Batch::new(&mut engine, settings);
    let (mut finished, mut heard) = (Vec::new(), vec![0; sequences.len()]);
    let mut coming = sequences.iter();
    let is_cancelled = |id: u64| id % 7 == 3;
    for step in 0.. {
        for sequence in coming.by_ref().take(draws.item("joins").below(step, 3)) {
            batch.add(sequence.clone());
        }
        if step % 5 == 4 {
            (0..sequences.len() as u64).filter(|id| is_cancelled(*id)).for_each(|id| batch.cancel(id));
        }
        finished.extend(batch.step(&mut |id, tokens| {
            heard[id as usize] += 1;
            assert_eq!(tokens.ids.len(), heard[id as usize], "every token is heard once");
            tokens.ids.len() == 200
        }));
        if batch.is_empty() && coming.len() == 0 {
            break;
        }
    }
    let whole = sequences.len() - (0..sequences.len() as u64).filter(|id| is_cancelled(*id)).count();
    assert!(finished.len() >= whole);
    for Finished { id, prompt, tokens, finish } in finished {
        let Sequence { prompt: asked, sampling, draws, read_prompt, likeliest } = &sequences[id as usize];
        let ids = &tokens.ids;
        assert_eq!(tokens.logprobs, packed(&decoder, asked, ids, 0.8));
        let stopped = ids.last() == Some(&7) || ids.len() == 200;
        assert_eq!(finish == Finish::Stop, stopped);
        assert!(stopped || ids.len() == sampling.max_new_tokens);
        if *read_prompt {
            assert_eq!(prompt.ids, asked[1..]);
            assert_eq!(prompt.logprobs, packed(&decoder, &asked[..1], &asked[1..], 0.8));
        }
        let expected = if *likeliest == 0 { 0 } else { ids.len() };
        assert_eq!(tokens.likeliest.len(), expected);
        for (place, found) in tokens.likeliest.iter().enumerate() {
            assert_eq!(found.len(), *likeliest);
            assert!(found.is_sorted_by(|(_, a), (_, b)| a >= b));
            let before = [&asked[..], &ids[..place]].concat();
            for (token, logprob) in found.iter().filter(|_| place % 16 == 0) {
                let alone = packed(&decoder, &before, &[*token], 0.8)[0];
                assert!((alone - logprob).abs() < 1e-4, "{alone} and {logprob}");
            }
            if sampling.temperature == 0.0 {
                assert_eq!(found[0], (ids[place], tokens.logprobs[place]), "greedy takes the likeliest");
            }
        }
        // A request by itself.
        let mut alone = Engine::new(&decoder, None, Sharing::Off);
        if sampling.max_new_tokens > 0 && ids.len() < 200 {
            let settings = Settings { sampling: (**sampling).clone(), ..self::settings(1, 1) };
            let request = Request { prompt: asked.clone(), draws: *draws };
            assert_eq!(alone.generate(&[request], &settings, &mut |_| {})[0].token_ids, *ids);
        }
    }
}

#[test]
fn what_joins_and_leaves_changes_no_bit() {
    check_batch(Cpu::new(Precision::F32), KEPT);
    check_batch(Cpu::new(Precision::Bf16), Sharing::UpTo(500));
    check_batch(Cpu::new(Precision::F32), Sharing::Off);
}
