//! Compares ids, renderings, masks and exports with those of transformers for the same files. The goldens come from
//! `goldens/make_text_goldens.py`; no test needs Python.

use std::path::{Path, PathBuf};

use serde_json::Value;
use solon_records::Message;
use solon_text::{ChatTokenizer, GgufVocabulary, TextError, Turn};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/folder")
}

fn goldens() -> Value {
    serde_json::from_str(include_str!("goldens/goldens.json")).expect("goldens.json is JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|value| text(value).to_owned()).collect()
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|value| value.as_u64().expect("a number") as u32).collect()
}

fn messages(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).expect("messages")
}

/// The folder's tokenizer with one of the golden templates, its special tokens in the configuration.
fn with_template(goldens: &Value, name: &str) -> ChatTokenizer {
    let template = &goldens["templates"][name];
    let copy = tempfile::tempdir().expect("a temporary folder");
    std::fs::copy(folder().join("tokenizer.json"), copy.path().join("tokenizer.json")).expect("a copy");
    let configuration = serde_json::json!({
        "bos_token": template["bos"], "eos_token": template["eos"], "pad_token": template["eos"],
        "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": template["source"]}],
    });
    std::fs::write(copy.path().join("tokenizer_config.json"), configuration.to_string()).expect("a file");
    ChatTokenizer::from_folder(copy.path()).expect(name)
}

/// The folder's vocabulary as a GGUF file would hold it.
fn vocabulary(goldens: &Value, pre: &str) -> GgufVocabulary {
    let definition = std::fs::read_to_string(folder().join("tokenizer.json")).expect("tokenizer.json");
    let definition: Value = serde_json::from_str(&definition).expect("JSON");
    let vocab = definition["model"]["vocab"].as_object().expect("a vocabulary");
    let mut tokens = vec![String::new(); vocab.len()];
    for (token, id) in vocab {
        tokens[id.as_u64().expect("an id") as usize] = token.clone();
    }
    let special = definition["added_tokens"].as_array().expect("added tokens").len();
    GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: pre.to_owned(),
        token_types: (0..tokens.len()).map(|id| if id < special { 3 } else { 1 }).collect(),
        tokens,
        merges: texts(&goldens["merges"]),
        bos: Some(1),
        eos: Some(2),
        unk: Some(0),
        pad: Some(2),
        chat_template: Some(text(&goldens["templates"]["smollm2"]["source"]).to_owned()),
        ..GgufVocabulary::default()
    }
}

fn check_encodings(tokenizer: &ChatTokenizer, rows: &Value) {
    let rows = rows.as_array().expect("rows");
    assert!(rows.len() > 40);
    for row in rows {
        let given = text(&row["text"]);
        let ids = tokenizer.encode(given).expect(given);
        assert_eq!(ids, numbers(&row["ids"]), "{given:?}");
        assert_eq!(tokenizer.decode(&ids), text(&row["decoded"]), "{given:?}");
        let mut stream = tokenizer.stream_decoder();
        for id in &ids {
            stream.push(*id);
        }
        stream.finish();
        assert_eq!(stream.text(), text(&row["decoded"]), "streamed {given:?}");
    }
}

#[test]
fn a_folder_encodes_and_decodes_as_transformers_does() {
    let tokenizer = ChatTokenizer::from_folder(&folder()).expect("the folder");
    check_encodings(&tokenizer, &goldens()["encodings"]["smollm"]);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.pad()), (Some(1), Some(2), Some(2)));
    assert_eq!(tokenizer.stop_ids(), [2, 0], "end of turn first, then generation_config.json");
}

#[test]
fn a_gguf_vocabulary_encodes_as_its_tokenizer_json_does() {
    let goldens = goldens();
    for pre in ["smollm", "gpt-2", "llama-bpe", "qwen2", "tekken"] {
        let tokenizer = ChatTokenizer::from_gguf(vocabulary(&goldens, pre)).expect(pre);
        check_encodings(&tokenizer, &goldens["encodings"][pre]);
    }
    let distinct: std::collections::HashSet<String> =
        goldens["encodings"].as_object().expect("rows").values().map(Value::to_string).collect();
    assert_eq!(distinct.len(), 5, "the goldens can tell every pre-tokenizer from the others");
}

#[test]
fn a_sentencepiece_vocabulary_encodes_as_its_converted_form_does() {
    let goldens = goldens();
    let golden = &goldens["sentencepiece"];
    let tokenizer = ChatTokenizer::from_gguf(GgufVocabulary {
        model: "llama".to_owned(),
        tokens: texts(&golden["tokens"]),
        token_types: numbers(&golden["types"]).into_iter().map(|kind| kind as i32).collect(),
        bos: Some(1),
        eos: Some(2),
        unk: Some(0),
        add_bos: None,
        add_space_prefix: None,
        chat_template: Some(text(&goldens["templates"]["mistral"]["source"]).to_owned()),
        ..GgufVocabulary::default()
    })
    .expect("the vocabulary");
    check_encodings(&tokenizer, &golden["encodings"]);

    // The template writes the answer's opening space, once: encoding the answer by itself adds no second one.
    let conversation = [Message::user("Who wrote this?"), Message::assistant("Solon gave laws")];
    let whole = tokenizer.encode(&tokenizer.render(&conversation, false).expect("renders")).expect("encodes");
    let encoded = tokenizer.encode_conversation(&conversation, |_| true).expect("encodes");
    assert_eq!(encoded.ids, whole);
    let Turn { prompt, answer: completion } =
        tokenizer.turn_ids(&conversation[..1], &Message::assistant("Solon gave laws")).expect("encodes");
    assert_eq!([prompt.clone(), completion.clone()].concat(), whole);
    assert_eq!(prompt.iter().filter(|id| **id == 1).count(), 1, "one beginning of sequence");
    assert_eq!(tokenizer.decode(&completion), "Solon gave laws");

    // A plain text gets the beginning of sequence that the tokenizer puts there, once; a rendered conversation has its own.
    for (context, plain, expected) in [("Solon", true, 1), ("<s>Solon", true, 1), ("Solon", false, 0)] {
        let (ids, of_context) = tokenizer.following_ids(context, " gave laws", plain).expect("encodes");
        assert_eq!(ids.iter().filter(|id| **id == 1).count(), expected, "{context} {plain}");
        assert!(ids[0] == 1 || expected == 0, "{ids:?}");
        assert_eq!(tokenizer.decode(&ids[of_context..]).trim(), "gave laws");
    }
}

#[test]
fn conversations_render_and_encode_as_apply_chat_template_does() {
    let goldens = goldens();
    let mut raised = 0;
    for row in goldens["chats"].as_array().expect("rows") {
        let name = text(&row["template"]);
        let tokenizer = with_template(&goldens, name);
        let prompt = row["add_generation_prompt"].as_bool().expect("a flag");
        let given = messages(&row["messages"]);
        let rendered = tokenizer.render(&given, prompt);
        if let Some(words) = row.get("raised") {
            match rendered {
                Err(TextError::TemplateRaised { message }) => assert_eq!(message, text(words)),
                other => panic!("{name}: {other:?}"),
            }
            raised += 1;
            continue;
        }
        let rendered = rendered.unwrap_or_else(|error| panic!("{name} {given:?}: {error}"));
        assert_eq!(rendered, text(&row["text"]), "{name}");
        assert_eq!(tokenizer.encode(&rendered).expect("encodes"), numbers(&row["ids"]), "{name}");
        if prompt {
            assert_eq!(tokenizer.prompt_ids(&given).expect("encodes"), numbers(&row["ids"]), "{name}");
        }
    }
    assert!(raised > 0, "some golden conversation is refused");
}

#[test]
fn masks_equal_those_of_transformers_generation_tags() {
    let goldens = goldens();
    let tokenizer = with_template(&goldens, "generation");
    let mut compared = 0;
    for row in goldens["chats"].as_array().expect("rows").iter().filter(|row| row.get("mask").is_some()) {
        let encoded = tokenizer.encode_conversation(&messages(&row["messages"]), |_| true).expect("encodes");
        let (ids, mask) = (numbers(&row["ids"]), numbers(&row["mask"]));
        let trained = mask.iter().rposition(|trained| *trained == 1).expect("something is trained") + 1;
        assert_eq!(encoded.ids, ids[..trained]);
        assert_eq!(
            encoded.loss_mask,
            mask[..trained].iter().map(|trained| *trained == 1).collect::<Vec<_>>()
        );
        compared += 1;
    }
    assert!(compared >= 5);
}

#[test]
fn every_template_teaches_content_and_end_of_turn_and_nothing_else() {
    let goldens = goldens();
    let conversation = [
        Message::user("2+2?"),
        Message::assistant("It's 4."),
        Message::user("Sure?"),
        Message::assistant("Yes."),
    ];
    for (name, pre, end) in [
        ("smollm2", "smollm", 2),
        ("qwen2.5", "qwen2", 2),
        ("llama-3", "llama-bpe", 10),
        ("mistral", "tekken", 4),
        ("generation", "smollm", 2),
    ] {
        let template = text(&goldens["templates"][name]["source"]).to_owned();
        let (bos, eos) = (Some(7), Some(end));
        let vocabulary =
            GgufVocabulary { bos, eos, pad: eos, chat_template: Some(template), ..vocabulary(&goldens, pre) };
        let tokenizer = ChatTokenizer::from_gguf(vocabulary).expect(name);
        assert_eq!(tokenizer.end_of_turn(), end, "{name}");
        assert_eq!(tokenizer.stop_ids()[0], end, "{name}");
        let encoded = tokenizer.encode_conversation(&conversation, |_| true).expect(name);
        let trained: Vec<u32> = encoded
            .ids
            .iter()
            .zip(&encoded.loss_mask)
            .filter(|(_, trained)| **trained)
            .map(|(id, _)| *id)
            .collect();
        let completions = [1, 3].map(|index| {
            let turn = tokenizer.turn_ids(&conversation[..index], &conversation[index]).expect("encodes");
            let sampled = tokenizer.continuation_ids(&conversation[index].content).expect("encodes");
            assert_eq!(turn.answer, [sampled, vec![end]].concat(), "{name}");
            turn.answer
        });
        assert_eq!(trained, completions.concat(), "{name}");
        let whole =
            tokenizer.encode(&tokenizer.render(&conversation, false).expect("renders")).expect("encodes");
        assert_eq!(encoded.ids, whole[..encoded.ids.len()], "{name}");
        // The pad token is the end of turn here, and the end of turn is still trained on.
        assert_eq!(tokenizer.pad(), tokenizer.eos());
        assert_eq!(trained.iter().filter(|id| **id == end).count(), 2, "{name}");
    }
}

/// GPT-2's expression splits two line ends if a word follows. So one encoding of the whole text has other ids for the
/// prompt than the model gets when it samples. The ids used in sampling are the right ones.
#[test]
fn a_prompt_keeps_its_ids_when_its_answer_follows() {
    let tokenizer = with_template(&goldens(), "llama-3");
    let conversation = [Message::user("2+2?"), Message::assistant("It's 4.")];
    let whole = tokenizer.encode(&tokenizer.render(&conversation, false).expect("renders")).expect("encodes");
    let prompt = tokenizer.prompt_ids(&conversation[..1]).expect("encodes");
    assert!(!whole.starts_with(&prompt), "the case this test is about");
    let encoded = tokenizer.encode_conversation(&conversation, |_| true).expect("encodes");
    let turn = tokenizer.turn_ids(&conversation[..1], &Message::assistant("It's 4.")).expect("encodes");
    assert_eq!(turn.prompt, prompt);
    assert_eq!(encoded.ids, [turn.prompt, turn.answer].concat());
}

#[test]
fn an_export_loads_as_the_same_tokenizer() {
    let goldens = goldens();
    let from_folder = ChatTokenizer::from_folder(&folder()).expect("the folder");
    let from_gguf = ChatTokenizer::from_gguf(vocabulary(&goldens, "smollm")).expect("the vocabulary");
    for tokenizer in [from_folder, from_gguf] {
        let copy = tempfile::tempdir().expect("a temporary folder");
        let files = tokenizer.export_files().expect("exports");
        assert_eq!(files, tokenizer.export_files().expect("exports"));
        for (name, bytes) in &files {
            std::fs::write(copy.path().join(name), bytes).expect("a file");
        }
        let again = ChatTokenizer::from_folder(copy.path()).expect("the export");
        check_encodings(&again, &goldens["encodings"]["smollm"]);
        assert_eq!(again.template(), tokenizer.template());
        assert_eq!(
            (again.bos(), again.eos(), again.pad(), again.end_of_turn()),
            (tokenizer.bos(), tokenizer.eos(), tokenizer.pad(), tokenizer.end_of_turn())
        );
        assert_eq!(again.export_files().expect("exports"), files, "exporting an export changes nothing");
    }
}
