//! The readers, each given any bytes; each says whether it took them. What is read is used a little, because a fault may show only there.

use std::path::Path;

use serde_json::{Value, json};
use solon_data::check::Opened;
use solon_data::jsonl::read_jsonl;
use solon_data::records::{Purpose, read_foreign_votes};
use solon_draws::Draws;
use solon_infer::chat::{AnswerSettings, ChatModel, ChatRequest, OpenSettings};
use solon_kernels::{Precision, threads};
use solon_model::Training;
use solon_model::weights::{AdapterFile, Description};
use solon_records::{Context, Message, SamplingSettings, TemplateInputs};
use solon_tables::{ArrowRows, ParquetRows};
use solon_text::{ChatTokenizer, GgufVocabulary};
use tempfile::TempDir;

use crate::{parts, seeds};

thread_local! {
    /// One folder for all inputs: making one for each would take longer than reading it.
    static FOLDER: TempDir = tempfile::tempdir().expect("a temporary folder");
    /// A model for adapters to be put on.
    static BASE: TempDir = seeds::base_model();
}

const TOKENIZER_FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "config.json",
];

pub(crate) fn gguf(input: &[u8]) -> bool {
    with_file("model.gguf", input, |path| {
        let _ = Description::read(path);
        answer(path, None)
    })
}

pub(crate) fn model(input: &[u8]) -> bool {
    let weights =
        ["model.safetensors", "model.safetensors.index.json", "shard-1.safetensors", "shard-2.safetensors"];
    FOLDER.with(|folder| {
        parts::write_folder(folder.path(), input, &[&TOKENIZER_FILES[..], &weights].concat());
        let _ = Description::read(folder.path());
        answer(folder.path(), None)
    })
}

pub(crate) fn adapter(input: &[u8]) -> bool {
    let names =
        ["adapter_config.json", "adapter_model.safetensors", "adapters.safetensors", "adapter_model.bin"];
    FOLDER.with(|folder| {
        parts::write_folder(folder.path(), input, &names);
        AdapterFile::open(folder.path()).is_ok() && BASE.with(|base| answer(base.path(), Some(folder.path())))
    })
}

/// Opens a model and lets it answer.
fn answer(path: &Path, adapter: Option<&Path>) -> bool {
    let settings = OpenSettings { precision: Precision::F32, training: Training::Frozen };
    threads::with_threads(1, || {
        let Ok(model) = ChatModel::open(path, adapter, settings) else { return false };
        let request = |context| ChatRequest {
            id: "fuzz".to_owned(),
            context,
            prefill: "a".to_owned(),
            draws: Draws::new(0, "fuzz"),
        };
        let requests =
            [Context::Chat(vec![Message::user("a b")]), Context::Text("a".to_owned())].map(request);
        let settings = AnswerSettings { sampling: SamplingSettings::of_length(2), slots: 2 };
        let mut engine = model.engine(model.adapter.as_ref());
        let _ = model.answer(&mut engine, &requests, &settings, &mut |_| {});
        use_text(&model.text, "a b");
        true
    })
}

pub(crate) fn tokenizer(input: &[u8]) -> bool {
    FOLDER.with(|folder| {
        parts::write_folder(folder.path(), input, &TOKENIZER_FILES);
        let text = ChatTokenizer::from_folder(folder.path());
        text.inspect(|text| use_text(text, &words(input))).is_ok()
    })
}

pub(crate) fn template(input: &[u8]) -> bool {
    let source = parts::split(input).into_iter().find(|(name, _)| *name == "template");
    let chat_template = source.map(|(_, body)| String::from_utf8_lossy(body).into_owned());
    let text = ChatTokenizer::from_gguf(GgufVocabulary { chat_template, ..seeds::letters() });
    text.inspect(|text| use_text(text, &words(input))).is_ok()
}

/// The vocabulary that a GGUF file would hold, its fields written as text. In the file itself each text has its length before it, so
/// mutations of its bytes seldom get as far.
pub(crate) fn vocabulary(input: &[u8]) -> bool {
    let parts = parts::split(input);
    let text = |wanted: &str| {
        let part = parts.iter().find(|(name, _)| *name == wanted);
        part.map(|(_, body)| String::from_utf8_lossy(body).trim_end_matches('\n').to_owned())
    };
    let lines = |name: &str| text(name).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    let numbers = |name: &str| {
        let text = text(name).unwrap_or_default();
        text.split_whitespace().filter_map(|number| number.parse().ok()).collect::<Vec<i64>>()
    };
    let id = |name: &str| numbers(name).first().and_then(|id| u32::try_from(*id).ok());
    let flag = |name: &str| numbers(name).first().map(|flag| *flag != 0);
    let vocabulary = GgufVocabulary {
        model: text("model").unwrap_or_default(),
        pre: text("pre").unwrap_or_default(),
        tokens: lines("tokens"),
        token_types: numbers("types").into_iter().map(|kind| kind as i32).collect(),
        merges: lines("merges"),
        bos: id("bos"),
        eos: id("eos"),
        unk: id("unk"),
        pad: id("pad"),
        ends: numbers("ends").into_iter().filter_map(|id| u32::try_from(id).ok()).collect(),
        add_bos: flag("add_bos"),
        add_space_prefix: flag("add_space_prefix"),
        chat_template: text("template"),
    };
    let text = ChatTokenizer::from_gguf(vocabulary);
    text.inspect(|text| use_text(text, &words(input))).is_ok()
}

/// The text that an input wants encoded.
fn words(input: &[u8]) -> String {
    let words = parts::split(input).into_iter().find(|(name, _)| *name == "words");
    String::from_utf8_lossy(words.map(|(_, body)| body).unwrap_or(b"a b")).into_owned()
}

/// All that a tokenizer is used for.
fn use_text(text: &ChatTokenizer, words: &str) {
    for piece in [words, "", "a\n b", " é<|im_end|> \u{1F600}"] {
        if let Ok(ids) = text.encode(piece) {
            text.decode(&ids);
            let mut stream = text.stream_decoder();
            for id in &ids {
                stream.push(*id);
            }
            stream.finish();
            ids.iter().take(8).for_each(|id| drop(text.token_text(*id)));
        }
        let _ = text.following_ids(words, piece, true);
        let _ = text.continuation_ids(piece);
    }
    let (user, assistant) = (Message::user(words), Message::assistant(words));
    let thought = Message::assistant(format!("<think>\n{words}\n</think>\n\nyes"));
    for messages in [
        vec![user.clone(), assistant.clone()],
        vec![Message::system(words), user.clone(), thought],
        vec![user.clone(), assistant.clone(), Message::user("b"), Message::assistant("a a")],
        with_tools(words),
        vec![assistant],
        vec![],
    ] {
        let _ = text.prompt_ids(&messages);
        if let Ok(encoded) = text.encode_conversation(&messages, |_| true) {
            assert_eq!(encoded.ids.len(), encoded.loss_mask.len());
            assert!(encoded.loss_mask.contains(&true), "nothing is learnt");
        }
    }
    let answers = [words, "a", ""].map(Message::assistant);
    if let Ok((_, answers)) = text.turns_ids(&[user], &answers) {
        let closing = text.closing(text.pad());
        assert!(answers.iter().all(|answer| closing.close(answer).len() <= answer.len() + closing.room()));
    }
    let _ = text.turn_parts();
    let _ = text.export_files();
    let _ = text.to_gguf(text.vocab_size().min(1 << 16));
}

/// A conversation in which the assistant thinks and calls a tool.
fn with_tools(words: &str) -> Vec<Message> {
    let call = json!([{"type": "function", "id": "c", "function": {"name": format!("f{words}"), "arguments": {"a": 1.5, "b": words}}}]);
    let messages = json!([
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": null, "reasoning_content": words, "tool_calls": call},
        {"role": "tool", "content": words, "name": words, "tool_call_id": "c"},
        {"role": "assistant", "content": "b"},
    ]);
    let mut messages: Vec<Message> = serde_json::from_value(messages).expect("messages");
    let tools = vec![json!({"type": "function", "function": {"name": words, "parameters": {}}})];
    TemplateInputs { tools, ..TemplateInputs::default() }.put_on(&mut messages);
    messages
}

/// The first byte says what the file is called and whether it is compressed; the rest is the file.
pub(crate) fn rows(input: &[u8]) -> bool {
    let Some((choice, rest)) = input.split_first() else { return false };
    let name = ["f.jsonl", "f.json", "f.csv", "f.csv.gz"][usize::from(choice & 3)];
    let packed = match choice >> 2 & 3 {
        1 => seeds::gzip(rest),
        2 => zstd::encode_all(rest, 1).expect("memory can be written to"),
        _ => rest.to_vec(),
    };
    with_file(name, &packed, |path| {
        let purposes =
            [Purpose::Demonstrations, Purpose::Preferences, Purpose::Unpaired, Purpose::Prompts].map(Some);
        let opened: Vec<Opened> = purposes
            .into_iter()
            .chain([None])
            .filter_map(|purpose| Opened::open(path, purpose).ok())
            .collect();
        for file in &opened {
            let check = file.check();
            assert!(check.duplicates.len() <= check.rows);
            file.shared_questions(&opened[0]);
        }
        let votes = read_foreign_votes(path, &[]);
        let values = read_jsonl::<Value>(path);
        !opened.is_empty() || votes.is_ok() || values.is_ok()
    })
}

pub(crate) fn parquet(input: &[u8]) -> bool {
    with_file("f.parquet", input, |path| {
        ParquetRows::open(path).is_ok_and(|mut rows| rows.by_ref().take(1 << 14).all(|row| row.is_ok()))
    })
}

pub(crate) fn arrow(input: &[u8]) -> bool {
    // A file of a few bytes can have more rows than anyone will wait for.
    ArrowRows::new(Path::new("f.arrow"), input).take(1 << 14).all(|row| row.is_ok())
}

fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> bool) -> bool {
    FOLDER.with(|folder| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("the temporary folder can be written to");
        let taken = read(&path);
        std::fs::remove_file(&path).expect("the file is there");
        taken
    })
}
