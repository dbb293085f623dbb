//! Chat templates: every trainer and every score takes the same ids from the same conversation.

use crate::place::{Place, rows};
use serde_json::{Value, json};
use solon_text::ChatTokenizer;

const END: &str = "<|im_end|>";

/// Puts a chat template into the model's folder.
fn set_template(place: &Place, source: &str) {
    std::fs::write(place.path("model/chat_template.jinja"), source).unwrap();
}

/// The last line of a stage's metrics.
fn metrics(place: &Place, folder: &str) -> Value {
    rows(&place.read(&format!("{folder}/metrics.jsonl"))).pop().unwrap()
}

/// Trains and scores the answer under a template of this body and generation prompt, and expects these texts after the prompt.
#[track_caller]
fn check(body: &str, opening: &str, answer: &str, expected: &str) {
    let place = Place::with_model();
    set_template(
        &place,
        &format!(
            "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{body}{END}\n{{% endfor %}}\
             {{% if add_generation_prompt %}}{opening}{{% endif %}}"
        ),
    );
    place.write("s.jsonl", &[json!({"prompt": "Why?", "completion": answer})]);
    place.write("d.jsonl", &[json!({"prompt": "Why?", "chosen": answer, "rejected": "No"})]);
    for command in
        ["sft --data s.jsonl --out s", "dpo --data d.jsonl --out d", "reward --data d.jsonl --out r"]
    {
        place.run(&format!("{command} --model model --precision f32 --threads 1"), "").ok();
    }
    let scored = place.run("score --model model --input s.jsonl --precision f32 --threads 1", "").ok().rows();
    let ids: Vec<u32> = serde_json::from_value(scored[0]["completion_token_ids"].clone()).unwrap();
    let text = ChatTokenizer::from_folder(&place.path("model")).unwrap();
    let mut right = text.encode(expected).unwrap();
    right.push(text.token_to_id(END).unwrap());
    assert_eq!(ids, right, "{body}");

    let score: f64 = scored[0]["logprobs"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum();
    let (sft, dpo) = (metrics(&place, "s"), metrics(&place, "d"));
    let learnt = sft["loss"].as_f64().unwrap() * sft["tokens"].as_f64().unwrap();
    assert_eq!(sft["tokens"].as_f64(), Some(right.len() as f64), "{body}");
    assert!((learnt + score).abs() < 1e-3, "{learnt} {score}");
    let chosen = dpo["logps/chosen"].as_f64().unwrap();
    assert!((chosen - score).abs() < 1e-3, "{chosen} {score}");
}

const OPENING: &str = "<|im_start|>assistant\n";

/// As in ChatML, Qwen3, Llama 3 and DeepSeek-R1, and where `add_generation_prompt` is ignored.
#[test]
fn trainers_and_scores_take_all_that_the_template_writes_for_the_answer() {
    check("{{ m.content }}", OPENING, "Because.", "Because.");
    let thinking = "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}";
    check(thinking, OPENING, "Because.", "<think>\n\n</think>\n\nBecause.");
    check("{{ m.content | trim }}", OPENING, " Because.\n", "Because.");
    check("{{ m.content }}", "<|im_start|>assistant\n<think>\n", "Because.", "Because.");
    check("{{ m.content }}", "", "Because.", "<|im_start|>assistant\nBecause.");
}

/// A template that knows tools, in the manner of Qwen3.
const WITH_TOOLS: &str = "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}\
    {% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}\
    {{ m.content or '' }}{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think></think>{% endif %}{% endif %}";

#[test]
fn rows_with_tools_are_trained_and_scored_or_refused_by_every_command() {
    let place = Place::with_model();
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let call = json!({"role": "assistant", "content": "", "reasoning_content": "r",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1.0}}}]});
    let prompt = json!([{"role": "user", "content": "q"}]);
    place.write("s.jsonl", &[json!({"prompt": prompt, "completion": [call], "tools": tools})]);
    place.write(
        "d.jsonl",
        &[json!({"prompt": prompt, "chosen": [call], "rejected": "No", "tools": tools.to_string()})],
    );
    place.write("p.jsonl", &[json!({"prompt": prompt, "tools": tools})]);
    let commands = [
        "sft --data s.jsonl --out s",
        "dpo --data d.jsonl --out d",
        "reward --data d.jsonl --out r",
        "score --input s.jsonl",
        "generate --prompts p.jsonl --max-new-tokens 2",
    ];
    // The model's own template knows no tools.
    for command in commands {
        let told = place.run(&format!("{command} --model model --precision f32 --threads 1"), "");
        told.fails(1, &["the chat template leaves no trace of", "--chat-template FILE"]);
    }
    std::fs::write(place.path("t.jinja"), WITH_TOOLS).unwrap();
    let words = "--model model --chat-template t.jinja --precision f32 --threads 1";
    let mut ids: Vec<u32> = Vec::new();
    for command in commands {
        let told = place.run(&format!("{command} {words}"), "").ok();
        if command.starts_with("score") {
            ids = serde_json::from_value(told.rows()[0]["completion_token_ids"].clone()).unwrap();
        }
    }
    let text = ChatTokenizer::from_folder(&place.path("model")).unwrap();
    let mut right: Vec<u32> =
        text.encode("<think>r</think><call>{\"name\": \"f\", \"arguments\": {\"x\": 1.0}}</call>").unwrap();
    right.push(text.token_to_id(END).unwrap());
    assert_eq!(ids, right);
    assert_eq!(metrics(&place, "s")["tokens"].as_f64(), Some(right.len() as f64));
    // What is trained is saved with the template that it was trained with.
    assert_eq!(place.read("s/chat_template.jinja"), WITH_TOOLS);
    place.run(&format!("sft --data s.jsonl --out m --merge {words}"), "").ok();
    assert_eq!(place.read("m/chat_template.jinja"), WITH_TOOLS);
    place
        .run("label --input d.jsonl --model model --out l.jsonl", "")
        .fails(1, &["has an answer with calls of tools"]);
}

#[test]
fn a_broken_chat_template_is_named() {
    let place = Place::with_model();
    place.write("s.jsonl", &[json!({"prompt": "q", "completion": "a"})]);
    let run = |words: &str| place.run(&format!("{words} --model model --chat-template t.jinja"), "");
    std::fs::write(place.path("t.jinja"), "{% for m in messages %}\n{{ m.content }").unwrap();
    run("score --input s.jsonl").fails(1, &["the chat template t.jinja", "line 2"]);
    std::fs::write(place.path("t.jinja"), "# A model").unwrap();
    run("sft --data s.jsonl --out s").fails(1, &["t.jinja", "writes nothing of what the user says"]);
    run("data check s.jsonl").fails(1, &["t.jinja", "writes nothing of what the user says"]);
}

#[test]
fn line_ends_of_windows_change_nothing() {
    let place = Place::with_model();
    place.write("p.jsonl", &[json!({"prompt": "Why?"})]);
    let template = "{% for m in messages %}\n<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\n<|im_start|>assistant\n";
    let answers = [template.to_owned(), template.replace('\n', "\r\n")].map(|template| {
        set_template(&place, &template);
        let words =
            "generate --model model --prompts p.jsonl --temperature 0 --max-new-tokens 6 --precision f32 --threads 1";
        place.run(words, "").ok().out
    });
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_model_without_a_template_names_a_way_out() {
    let place = Place::with_model();
    std::fs::remove_file(place.path("model/chat_template.jinja")).unwrap();
    let path = place.path("model/tokenizer_config.json");
    let mut configuration: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    configuration.as_object_mut().unwrap().remove("chat_template");
    std::fs::write(&path, configuration.to_string()).unwrap();
    place.write("p.jsonl", &[json!({"prompt": "Why?"})]);
    place
        .run("generate --model model --prompts p.jsonl", "")
        .fails(1, &["has no chat template", "hint: put chat_template.jinja into the model's folder"]);
}
