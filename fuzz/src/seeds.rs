//! What mutations start from: for each target a few small inputs that are read to their end.
//!
//! They are written by Solon's own writers, so they change with the formats and nothing is kept beside the code. The chat templates are
//! those of the tests of `solon-text`. What a fuzzer found lies in `found/` and is a seed as well.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use flate2::Compression;
use parquet::basic::{Compression as PageCompression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use solon_draws::Draws;
use solon_infer::checkpoint_text::gguf_keys;
use solon_model::ModelConfig;
use solon_model::config::{Architecture, RopeScaling};
use solon_model::weights::{
    AdapterConfig, AdapterFile, AdapterTask, GgufType, SaveType, Tensor, TokenIds, expected_tensors,
    save_gguf, save_hugging_face,
};
use solon_text::{CHATML_TEMPLATE, ChatTokenizer, GgufVocabulary};
use tempfile::TempDir;

use crate::{Target, parts};

/// All seeds of a target.
pub fn of(target: Target) -> Vec<Vec<u8>> {
    made(target).into_iter().chain(found(target)).collect()
}

/// Inputs that are written as they should be.
pub fn made(target: Target) -> Vec<Vec<u8>> {
    match target {
        Target::Gguf => gguf(),
        Target::Vocabulary => vocabularies(),
        Target::Model => models(),
        Target::Adapter => adapters(),
        Target::Tokenizer => tokenizers(),
        Target::Template => templates(),
        Target::Rows => rows(),
        Target::Parquet => tables(),
        Target::Arrow => arrow(),
    }
}

/// What a fuzzer found: inputs that were once read wrongly.
pub fn found(target: Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("found").join(target.name());
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("a file")).collect()
}

/// Letters, digits and signs as byte-level BPE, with ChatML's tokens.
pub(crate) fn letters() -> GgufVocabulary {
    let mut tokens: Vec<String> = ('!'..='~').map(String::from).collect();
    // How byte-level BPE writes the space and the line break.
    tokens.extend(["Ġ", "Ċ", "ab", "Ġa", "Ġab"].map(str::to_owned));
    let ordinary = tokens.len();
    tokens.extend(["<|im_start|>", "<|im_end|>"].map(str::to_owned));
    let token_types = (0..tokens.len()).map(|id| if id < ordinary { 1 } else { 3 }).collect();
    GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: "gpt-2".to_owned(),
        token_types,
        merges: ["a b", "Ġ a", "Ġ ab"].map(str::to_owned).to_vec(),
        bos: Some(ordinary as u32),
        eos: Some(ordinary as u32 + 1),
        pad: Some(ordinary as u32 + 1),
        chat_template: Some(CHATML_TEMPLATE.to_owned()),
        tokens,
        ..GgufVocabulary::default()
    }
}

/// A SentencePiece vocabulary: pieces and bytes.
fn pieces() -> GgufVocabulary {
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let bytes = [0x0a, 0x20, 0xc3, 0xa9].map(|byte: u8| format!("<0x{byte:02X}>"));
    let pieces = ["▁", "a", "b", "▁a", "ab", "▁ab", "[INST]", "[/INST]"].map(str::to_owned);
    let token_types =
        [[2, 3, 3].to_vec(), vec![6; bytes.len()], vec![1; pieces.len() - 2], vec![4, 3]].concat();
    GgufVocabulary {
        model: "llama".to_owned(),
        tokens: [&special[..], &bytes, &pieces].concat(),
        token_types,
        bos: Some(1),
        eos: Some(2),
        unk: Some(0),
        add_bos: Some(true),
        add_space_prefix: Some(true),
        chat_template: Some(
            "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]\
             {% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
                .to_owned(),
        ),
        ..GgufVocabulary::default()
    }
}

fn config(architecture: Architecture, width: usize) -> ModelConfig {
    ModelConfig {
        architecture,
        vocab_size: letters().tokens.len(),
        hidden_size: width,
        intermediate_size: width,
        num_layers: 1,
        num_heads: 2,
        num_kv_heads: 1,
        head_dim: 4,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 64,
        tie_word_embeddings: true,
        qkv_bias: architecture == Architecture::Qwen2,
        qk_norm: architecture == Architecture::Qwen3,
    }
}

fn tensors(config: &ModelConfig) -> BTreeMap<String, Tensor> {
    let filled = |(name, shape): (String, Vec<usize>)| {
        let draws = Draws::new(0, "seeds").item(&name);
        let data =
            (0..shape.iter().product::<usize>()).map(|at| draws.uniform(at as u64) as f32 - 0.5).collect();
        (name, Tensor { shape, data })
    };
    expected_tensors(config).into_iter().map(filled).collect()
}

fn tokenizer(vocabulary: GgufVocabulary) -> ChatTokenizer {
    ChatTokenizer::from_gguf(vocabulary).expect("a vocabulary")
}

fn gguf() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    let written = |config: ModelConfig, kind: GgufType, text: GgufVocabulary| {
        let keys = gguf_keys(&tokenizer(text), config.vocab_size).expect("a vocabulary of GGUF");
        save_gguf(&path, &config, &tensors(&config), kind, &keys).expect("a model");
        std::fs::read(&path).expect("the file")
    };
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192.0,
    };
    vec![
        written(config(Architecture::Llama, 8), GgufType::F32, letters()),
        written(
            ModelConfig { rope_scaling: llama3, ..config(Architecture::Llama, 8) },
            GgufType::F16,
            pieces(),
        ),
        written(config(Architecture::Qwen2, 32), GgufType::Q4_0, letters()),
        written(config(Architecture::Qwen3, 32), GgufType::Q8_0, letters()),
        written(
            ModelConfig { vocab_size: 16, intermediate_size: 32, ..config(Architecture::Mistral, 256) },
            GgufType::Q4KM,
            pieces(),
        ),
    ]
}

fn vocabularies() -> Vec<Vec<u8>> {
    let written = |vocabulary: GgufVocabulary| {
        let numbers = |numbers: &[i64]| numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
        let id = |id: Option<u32>| numbers(&Vec::from_iter(id.map(i64::from)));
        let flag = |flag: Option<bool>| numbers(&Vec::from_iter(flag.map(i64::from)));
        let types: Vec<i64> = vocabulary.token_types.iter().map(|kind| i64::from(*kind)).collect();
        let fields = [
            ("model", vocabulary.model),
            ("pre", vocabulary.pre),
            ("tokens", vocabulary.tokens.join("\n")),
            ("types", numbers(&types)),
            ("merges", vocabulary.merges.join("\n")),
            ("bos", id(vocabulary.bos)),
            ("eos", id(vocabulary.eos)),
            ("unk", id(vocabulary.unk)),
            ("pad", id(vocabulary.pad)),
            ("ends", id(vocabulary.eos)),
            ("add_bos", flag(vocabulary.add_bos)),
            ("add_space_prefix", flag(vocabulary.add_space_prefix)),
            ("template", vocabulary.chat_template.unwrap_or_default()),
            ("words", "ab a b".to_owned()),
        ];
        parts::join(fields.iter().map(|(name, field)| (*name, field.as_bytes())))
    };
    vec![
        written(letters()),
        written(pieces()),
        written(GgufVocabulary { pre: "llama-bpe".to_owned(), add_bos: Some(true), ..letters() }),
        written(GgufVocabulary { pre: "qwen2".to_owned(), chat_template: None, ..letters() }),
    ]
}

/// The files of a folder as one input; of the weights only the header.
fn folder_as_parts(folder: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let files = paths.iter().map(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
        let bytes = std::fs::read(path).expect("a file");
        let is_weights = name.ends_with(".safetensors");
        (name, if is_weights { parts::header_of(&bytes).to_vec() } else { bytes })
    });
    let files: Vec<(&str, Vec<u8>)> = files.collect();
    parts::join(files.iter().map(|(name, bytes)| (*name, bytes.as_slice())))
}

fn save_model(folder: &Path, config: &ModelConfig, text: GgufVocabulary, save_type: SaveType, score: bool) {
    let text = tokenizer(text);
    let ids = TokenIds { bos: text.bos(), eos: text.stop_ids().to_vec(), pad: text.pad() };
    let score =
        score.then(|| Tensor { shape: vec![1, config.hidden_size], data: vec![0.5; config.hidden_size] });
    let files = text.export_files().expect("the tokenizer's files");
    save_hugging_face(folder, config, &tensors(config), save_type, score.as_ref(), &files, &ids)
        .expect("a model");
}

/// A whole model, for adapters.
pub(crate) fn base_model() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    save_model(folder.path(), &config(Architecture::Llama, 8), letters(), SaveType::F32, false);
    folder
}

fn models() -> Vec<Vec<u8>> {
    let written = |config: ModelConfig, text: GgufVocabulary, save_type: SaveType, score: bool| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        save_model(folder.path(), &config, text, save_type, score);
        folder_as_parts(folder.path())
    };
    let scaled = RopeScaling::Linear { factor: 2.0 };
    let mut seeds = vec![
        written(config(Architecture::Llama, 8), letters(), SaveType::F32, false),
        written(
            ModelConfig { rope_scaling: scaled, ..config(Architecture::Mistral, 8) },
            pieces(),
            SaveType::Bf16,
            false,
        ),
        written(
            ModelConfig { tie_word_embeddings: false, ..config(Architecture::Qwen2, 8) },
            letters(),
            SaveType::F32,
            false,
        ),
        written(config(Architecture::Qwen3, 8), letters(), SaveType::Bf16, true),
    ];
    // The first one in two shards.
    let whole = parts::split(&seeds[0]).into_iter().find(|(name, _)| *name == "model.safetensors");
    let header: Value = whole.and_then(|(_, header)| serde_json::from_slice(header).ok()).expect("a header");
    let mut shards = [json!({}), json!({})];
    let mut map = json!({});
    for (at, (name, tensor)) in header.as_object().expect("tensors").iter().enumerate().skip(1) {
        let shard = at % 2;
        let mut tensor = tensor.clone();
        let begin = data_end(&shards[shard]);
        let length =
            tensor["data_offsets"][1].as_u64().unwrap_or(0) - tensor["data_offsets"][0].as_u64().unwrap_or(0);
        tensor["data_offsets"] = json!([begin, begin + length]);
        shards[shard][name] = tensor;
        map[name] = json!(format!("shard-{}.safetensors", shard + 1));
    }
    let [index, first, second] =
        [json!({"metadata": {}, "weight_map": map}), shards[0].clone(), shards[1].clone()]
            .map(|part| part.to_string());
    let others = parts::split(&seeds[0]).into_iter().filter(|(name, _)| *name != "model.safetensors");
    let sharded = parts::join(others.chain([
        ("model.safetensors.index.json", index.as_bytes()),
        ("shard-1.safetensors", first.as_bytes()),
        ("shard-2.safetensors", second.as_bytes()),
    ]));
    seeds.push(sharded);
    seeds
}

/// Where the data of a shard ends so far.
fn data_end(shard: &Value) -> u64 {
    let ends =
        shard.as_object().into_iter().flatten().filter_map(|(_, tensor)| tensor["data_offsets"][1].as_u64());
    ends.max().unwrap_or(0)
}

fn adapters() -> Vec<Vec<u8>> {
    let config = config(Architecture::Llama, 8);
    let widths: BTreeMap<String, Vec<usize>> = expected_tensors(&config).into_iter().collect();
    let written = |modules: &[&str], task: AdapterTask, use_rslora: bool| {
        let pair = |module: &&str| {
            let name = format!("model.layers.0.{module}");
            let shape = &widths[&format!("{name}.weight")];
            let tensor =
                |shape: [usize; 2]| Tensor { shape: shape.to_vec(), data: vec![0.25; shape[0] * shape[1]] };
            [
                (format!("{name}.lora_A"), tensor([2, shape[1]])),
                (format!("{name}.lora_B"), tensor([shape[0], 2])),
            ]
        };
        let scores = task == AdapterTask::SequenceClassification;
        let file = AdapterFile {
            config: AdapterConfig {
                rank: 2,
                alpha: 4.0,
                target_modules: BTreeSet::from_iter(
                    modules.iter().filter_map(|module| Some(module.rsplit_once('.')?.1.to_owned())),
                ),
                base_model: Some("base".to_owned()),
                task,
                use_rslora,
                exceptions: BTreeMap::new(),
            },
            tensors: modules.iter().flat_map(pair).collect(),
            score: scores.then(|| Tensor { shape: vec![1, 8], data: vec![0.5; 8] }),
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        file.save(folder.path()).expect("an adapter");
        folder_as_parts(folder.path())
    };
    vec![
        written(&["self_attn.q_proj", "mlp.down_proj"], AdapterTask::CausalLm, false),
        written(&["self_attn.v_proj"], AdapterTask::SequenceClassification, true),
    ]
}

fn tokenizers() -> Vec<Vec<u8>> {
    let written = |vocabulary: GgufVocabulary, more: &[(&str, Value)]| {
        let files = tokenizer(vocabulary).export_files().expect("the tokenizer's files");
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let more: Vec<(&str, String)> = more.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let more = more.iter().map(|(name, text)| (*name, text.as_bytes()));
        parts::join(files.into_iter().chain(more).chain([("words", &b"ab a b"[..])]))
    };
    let old = json!({
        "eos_token": {"content": "<|im_end|>", "lstrip": true}, "bos_token": "<|im_start|>",
        "added_tokens_decoder": {"101": {"content": "<tool>", "special": true, "rstrip": true}},
        "additional_special_tokens": ["ab"],
        "chat_template": [{"name": "default", "template": CHATML_TEMPLATE}],
    });
    // What published tokenizers have that vocabularies of GGUF become without.
    let other = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": true,
            "normalized": false, "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": true, "strip_right": true},
            {"type": "Replace", "pattern": {"Regex": " +"}, "content": "▁"}, {"type": "Prepend", "prepend": "▁"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
            {"type": "Digits", "individual_digits": true},
            {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\s(?!\\S)"}, "behavior": "Isolated", "invert": false}]},
        "post_processor": {"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
            {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "Unigram", "unk_id": 1, "byte_fallback": true,
            "vocab": [["<s>", 0.0], ["<unk>", 0.0], ["<0x0A>", 0.0], ["▁", -2.0], ["a", -2.5], ["▁ab", -3.0], ["b", -3.0]]},
    });
    let settings = json!({"bos_token": "<s>", "eos_token": "<s>", "unk_token": "<unk>", "chat_template": CHATML_TEMPLATE});
    let unigram = [("tokenizer.json", other.to_string()), ("tokenizer_config.json", settings.to_string())];
    vec![
        written(letters(), &[("generation_config.json", json!({"eos_token_id": [100, 99]}))]),
        written(pieces(), &[("config.json", json!({"eos_token_id": 2}))]),
        written(letters(), &[("tokenizer_config.json", old), ("added_tokens.json", json!({"<x>": 102}))]),
        parts::join(unigram.iter().map(|(name, text)| (*name, text.as_bytes()))),
    ]
}

fn templates() -> Vec<Vec<u8>> {
    let goldens: Value =
        serde_json::from_str(include_str!("../../crates/solon-text/tests/goldens/goldens.json"))
            .expect("the goldens of solon-text");
    let published = goldens["templates"].as_object().expect("templates").values();
    let sources =
        published.filter_map(|template| template["source"].as_str()).chain([CHATML_TEMPLATE, FEATURES]);
    let parts = |source: &str| parts::join([("template", source.as_bytes()), ("words", b"a <b>\n")]);
    sources.map(parts).collect()
}

/// What published templates use of Jinja.
const FEATURES: &str = r#"{%- macro turn(message, last=false) -%}
{{- '<|im_start|>' ~ message.role ~ '\n' }}{% generation %}{{ message['content'] | trim }}{% endgeneration %}{{ '<|im_end|>' }}
{%- endmacro %}
{%- set ns = namespace(last=-1, system=messages[0].content if messages and messages[0].role == 'system' else none) %}
{%- for message in messages[::-1] %}{% if message.role == 'user' and ns.last < 0 %}{% set ns.last = loop.index0 %}{% break %}{% endif %}{% endfor %}
{%- if ns.system is not none and tools is not defined %}{{ raise_exception('no tools') }}{% endif %}
{%- for message in messages if message.role in ['user', 'assistant'] %}
{%- if '</think>' in message.content %}{% set rest = message.content.split('</think>')[-1].lstrip('\n') %}{{ rest | tojson(indent=2) }}{% else %}{{ turn(message, last=loop.last) }}{% endif %}
{%- endfor %}
{{- strftime_now('%d %b %Y') ~ ("%s|%05.2f" % ('a', 1.5)) ~ [1, 2] | map('string') | join(', ') ~ {'a': [true, none]} | tojson }}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"#;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory can be written to")
}

fn rows() -> Vec<Vec<u8>> {
    let conversation = r#"[{"role":"system","content":"s"},{"role":"user","content":"Q"},{"role":"assistant","content":"A","weight":0},
        {"role":"user","content":[{"type":"text","text":"R"}]},{"role":"assistant","content":"<think>t</think>B","train":true}]"#
        .replace('\n', "");
    let cell = r#""[{""role"": ""user"", ""content"": ""Q""}]""#;
    // What the file is called and whether it is compressed (`read::rows`), and the file.
    let texts: [(u8, String); 14] = [
        (0, format!("{{\"messages\":{conversation},\"x\":[NaN,{{\"c\":-Infinity}}],\"y\":\"\\ud83d\"}}\n")),
        (
            0,
            "{\"prompt\":\"Q\",\"completion\":\"A\"}\n\n{\"id\":7,\"prompt\":\"Q\",\"completion\":\"A\"}"
                .to_owned(),
        ),
        (0, PAIR.to_owned()),
        (0, HH.to_owned()),
        (1, SHAREGPT.to_owned()),
        (1, ALPACA.to_owned()),
        (1, "{\n  \"prompt\": \"Q\",\n  \"x\": true\n}\n{\n  \"prompt\": \"R\"}".to_owned()),
        (
            0,
            "{\"id\":\"u\",\"prompt\":\"T\",\"first\":\"a\",\"second\":\"b\",\"unlabelled\":\"no reply\"}\n"
                .to_owned(),
        ),
        (2, format!("id,prompt,chosen,rejected,probability\n7,{cell},A,[B],0.75\r\n\r\n8,Q,\"A\nA\",B,1\n")),
        (2, "\u{feff}prompt,response_a,response_b,label,annotator\nQ,A,B,a,ann\nQ,A,B,tie,bob\n".to_owned()),
        (4, "{\"prompt\":\"Q\",\"chosen\":\"A\",\"rejected\":\"B\"}\n".to_owned()),
        (8, "[{\"prompt\":\"Q\"},{\"prompt\":\"R\"}]".to_owned()),
        (7, "prompt\nQ\n".to_owned()),
        (1, ARGILLA.to_owned()),
    ];
    let plain = texts.map(|(choice, text)| [&[choice], text.as_bytes()].concat());
    let packed =
        [gzip(&plain[0][1..]), zstd::encode_all(&plain[4][1..], 3).expect("memory can be written to")];
    plain.into_iter().chain(packed.map(|bytes| [vec![0], bytes].concat())).collect()
}

const PAIR: &str = r#"{"prompt":[{"role":"user","content":"Q"}],"chosen":[{"role":"assistant","content":"A"}],"rejected":"B","margin":1.5,"probability":0.75}"#;
const HH: &str = r#"{"chosen":"\n\nHuman: Q\n\nAssistant: A","rejected":"\n\nHuman: Q\n\nAssistant: B"}"#;
const SHAREGPT: &str =
    r#"[{"conversations":[{"from":"human","value":"Q"},{"from":"gpt","value":"A"}],"system":"s"}]"#;
const ALPACA: &str = r#"[{"instruction":"I","input":"x","output":"A","history":[["q","a"]]}]"#;
const ARGILLA: &str = r#"[{"id":"r","fields":{"prompt":"Q","response_1":"A","response_2":"B"},"responses":{"choice":[{"value":"response_1","user_id":"u","status":"submitted"}]},"suggestions":{},"vectors":{},"metadata":{}}]"#;

fn tables() -> Vec<Vec<u8>> {
    let zstd = PageCompression::ZSTD(ZstdLevel::default());
    [PageCompression::UNCOMPRESSED, PageCompression::SNAPPY, zstd].map(table).to_vec()
}

/// Two rows: a text, a list of texts, a number of each kind and a flag.
fn table(compression: PageCompression) -> Vec<u8> {
    let schema = "message schema {
        optional binary question (UTF8);
        optional group choices (LIST) { repeated group list { optional binary element (UTF8); } }
        optional int64 answer;
        required double score;
        optional boolean flag;
    }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    macro_rules! column {
        ($kind:ty, $values:expr, $levels:expr, $repeats:expr) => {
            let mut column = group.next_column().expect("a column").expect("a column");
            column.typed::<$kind>().write_batch(&$values, $levels, $repeats).expect("values");
            column.close().expect("a column");
        };
    }
    let texts = |texts: &[&str]| texts.iter().map(|text| ByteArray::from(*text)).collect::<Vec<_>>();
    column!(ByteArrayType, texts(&["Who?", "Why?"]), Some(&[1, 1]), None);
    column!(ByteArrayType, texts(&["a", "b", "c"]), Some(&[3, 3, 3]), Some(&[0, 1, 0]));
    column!(Int64Type, [3], Some(&[1, 0]), None);
    column!(DoubleType, [0.5, -1.0], None, None);
    column!(BoolType, [true], Some(&[0, 1]), None);
    group.close().expect("a group");
    writer.close().expect("a file");
    bytes
}

/// A stream and a file with two record batches of texts, numbers and nulls.
fn arrow() -> Vec<Vec<u8>> {
    let columns = [
        ("prompt", Arc::new(StringArray::from(vec![Some("Q"), None])) as ArrayRef),
        ("score", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("a record batch");
    let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("a stream");
    let mut file = FileWriter::try_new(Vec::new(), &batch.schema()).expect("a file");
    for _ in 0..2 {
        stream.write(&batch).expect("a message");
        file.write(&batch).expect("a message");
    }
    [stream.into_inner(), file.into_inner()].map(|bytes| bytes.expect("the end")).into()
}
