//! Benchmarks of log-probs: what is added up, and what is cut off.

use super::*;
use solon_infer::chat::{ChatModel, OpenSettings, OptionsRequest};
use solon_infer::score::ScoreItem;
use solon_kernels::Precision;
use solon_model::{Training, Weights};
use solon_records::{Context, Message};

/// By the definition: the log-probs of all tokens of a text after the start of a text.
#[test]
fn the_perplexity_of_a_text_is_that_of_its_tokens() {
    let place = place();
    let text = "The river runs slowly. People sit on its banks.";
    std::fs::write(place.path("text.txt"), text).unwrap();
    let words = "eval perplexity --model model --data text.txt --precision f32 --json";
    let figures: Value = serde_json::from_str(&place.run(words, "").ok().out).unwrap();
    assert_eq!((&figures["items"], &figures["figures"]["bits_per_byte"]["count"]), (&json!(1), &json!(1)));
    assert!(figures.get("diversity").is_none());
    let model = open(&place);
    let mut prompt = vec![model.text.bos().or(model.text.eos()).unwrap()];
    let mut ids = model.text.encode(text).unwrap();
    // The context is empty, so the model's own start, where it has one, is not doubled.
    if ids[0] == prompt[0] {
        prompt = vec![ids.remove(0)];
    }
    let item = ScoreItem { prompt, completions: vec![ids] };
    let nats: f64 =
        -model.engine(None).score(&[item], 1.0, &mut |_| {})[0][0].iter().map(|x| f64::from(*x)).sum::<f64>();
    let close = |key: &str, expected: f64| (figures[key].as_f64().unwrap() - expected).abs() < 1e-9;
    assert!(close("bits_per_byte", nats / text.len() as f64 / std::f64::consts::LN_2), "{figures}");
    assert!(close("nats_per_word", nats / 9.0), "{figures}");
    let shown = place.run("eval perplexity --model model --data text.txt --set window=10", "").ok().out;
    assert!(shown.contains("bits per byte (all answers)"), "{shown}");
}

fn open(place: &Place) -> ChatModel {
    let settings = OpenSettings { precision: Precision::F32, training: Training::None(Weights::Full) };
    ChatModel::open(&place.path("model"), None, settings).unwrap()
}

/// The definition: log-probs of a text's tokens after those of its context, both encoded as one string.
#[test]
fn an_option_is_as_likely_as_its_tokens() {
    let place = Place::with_model();
    let model = open(&place);
    let request = |context: &str, template: bool, options: &[&str]| OptionsRequest {
        id: "item".to_owned(),
        context: match template {
            true => vec![Message::user(context)].into(),
            false => Context::Text(context.to_owned()),
        },
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    };
    // Spaces at the end of a context count to the option; "Answe" and "r" are other tokens alone than together.
    let requests = [
        request("Is it so? Answer:", false, &[" yes", " no, it never was", " yes"]),
        request("Is it so? Answer:  ", false, &["yes"]),
        request("Is it so? Answe", false, &["r: yes", " yes"]),
        request("Is it so?", true, &["yes", "no"]),
        request("", false, &["yes"]),
    ];
    let found = model.options(&mut model.engine(None), &requests).unwrap();
    let log_probs: Vec<usize> = found.iter().map(|options| options.log_probs.len()).collect();
    assert_eq!(log_probs, [3, 1, 2, 2, 1]);
    assert_eq!(found[0].log_probs[0], found[0].log_probs[2]);
    let end = model.text.bos().or(model.text.eos()).unwrap();
    for (request, options) in requests.iter().zip(&found) {
        let context = match &request.context {
            Context::Chat(messages) => model.text.render(messages, true).unwrap(),
            Context::Text(text) => text.clone(),
        };
        for (option, log_prob) in request.options.iter().zip(&options.log_probs) {
            // The golden tokenizer puts nothing around a text.
            let mut ids = model.text.encode(&format!("{context}{option}")).unwrap();
            let mut before = model.text.encode(context.trim_end()).unwrap().len();
            if before == 0 {
                ids.insert(0, end);
                before = 1;
            }
            let item =
                ScoreItem { prompt: ids[..before].to_vec(), completions: vec![ids[before..].to_vec()] };
            let expected: f64 =
                model.engine(None).score(&[item], 1.0, &mut |_| {})[0][0].iter().map(|x| f64::from(*x)).sum();
            assert_eq!(*log_prob, expected, "{context:?} {option:?}");
        }
    }
}

#[test]
fn a_context_that_is_too_long_loses_its_start_and_says_so() {
    let place = Place::with_model();
    let model = open(&place);
    let request = |context: String, option: &str| OptionsRequest {
        id: "long".to_owned(),
        context: Context::Text(context),
        options: vec![option.to_owned()],
    };
    let end = "The end is near. Answer:";
    let long = "word ".repeat(5000) + end;
    let found = model
        .options(&mut model.engine(None), &[request(long, " yes"), request(end.to_owned(), " yes")])
        .unwrap();
    assert_eq!(found.iter().map(|options| options.truncated).collect::<Vec<_>>(), [true, false]);
    assert!(found[0].log_probs[0].is_finite());
    for option in ["", &" yes".repeat(5000)] {
        let error = model.options(&mut model.engine(None), &[request(end.to_owned(), option)]).unwrap_err();
        assert!(error.to_string().starts_with("long: the option "), "{error}");
    }
}
