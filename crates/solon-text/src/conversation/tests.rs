use super::*;
use crate::gguf::tests::byte_tokenizer;

const END: u32 = 256;

fn with(template: &str) -> ChatTokenizer {
    byte_tokenizer().with_template(template).expect("a template")
}

fn question_and_answer(answer: &str) -> [Message; 2] {
    [Message::user("q"), Message::assistant(answer)]
}

/// Checks the text that is trained on; the end of turn is written `$`.
fn check(tokenizer: &ChatTokenizer, messages: &[Message], expected: &str) {
    check_learnt(tokenizer, messages, |_| true, expected);
}

fn check_learnt(
    tokenizer: &ChatTokenizer,
    messages: &[Message],
    learnt: impl Fn(usize) -> bool,
    expected: &str,
) {
    let encoded = tokenizer.encode_conversation(messages, learnt).expect("encodes");
    assert_eq!(encoded.ids.len(), encoded.loss_mask.len());
    assert_eq!(encoded.loss_mask.last(), Some(&true));
    let mut trained = Vec::new();
    for (id, _) in encoded.ids.iter().zip(&encoded.loss_mask).filter(|(_, trained)| **trained) {
        trained.push(if *id == END { b'$' } else { *id as u8 });
    }
    assert_eq!(String::from_utf8(trained).expect("text"), expected);
}

#[test]
fn trains_content_and_end_of_turn() {
    let tokenizer = byte_tokenizer();
    assert_eq!(tokenizer.pad(), Some(tokenizer.end_of_turn()));
    check(&tokenizer, &question_and_answer("yes\n"), "yes\n$");
    check(&tokenizer, &question_and_answer(""), "$");
    let turns =
        [question_and_answer("\none"), question_and_answer("two"), question_and_answer(" three")].concat();
    check(&tokenizer, &turns, "\none$two$ three$");
    check(&tokenizer, &[turns.as_slice(), &[Message::user("unanswered")]].concat(), "\none$two$ three$");
    check(&tokenizer, &question_and_answer("a<|im_end|>b"), "a$b$");
}

#[test]
fn one_answer_is_its_prompt_and_what_continues_it() {
    let tokenizer = byte_tokenizer();
    for answer in ["yes", "", "\n\nyes", " <|im_end|> yes "] {
        let messages = question_and_answer(answer);
        let prompt = tokenizer.prompt_ids(&messages[..1]).expect("encodes");
        let mut completion = tokenizer.continuation_ids(answer).expect("encodes");
        completion.push(END);
        let turn = tokenizer.turn_ids(&messages[..1], &Message::assistant(answer)).expect("encodes");
        assert_eq!((turn.prompt, turn.answer), (prompt, completion));
    }
}

#[test]
fn the_template_may_strip_content_and_add_space_and_thinking() {
    let stripping = "{% for m in messages %}{{ m.role }}:{{ m.content | trim }} <|im_end|>{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";
    check(&with(stripping), &question_and_answer(" yes "), "yes $");
    // As in Qwen3: an empty thinking block before the last answer only.
    let thinking = "{% for m in messages %}{{ m.role }}:{% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}\
        {{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    let turns = [question_and_answer("one"), question_and_answer("think")].concat();
    check(&with(thinking), &turns, "one$<think></think>think$");
}

/// What stands before the answer and the answer's own turn, as text; the end of turn is written `$`.
fn turn_texts(template: &str, prompt: &[Message], answer: &str) -> [String; 2] {
    let turn = with(template).turn_ids(prompt, &Message::assistant(answer)).expect("encodes");
    [turn.prompt, turn.answer].map(|ids| {
        String::from_utf8(ids.iter().map(|id| if *id == END { b'$' } else { *id as u8 }).collect())
            .expect("text")
    })
}

/// In the manner of Qwen3, DeepSeek-R1, Llama 3 and of a template that ignores `add_generation_prompt`.
#[test]
fn an_answer_is_all_that_the_template_writes_for_its_turn() {
    let turns = "{% for m in messages %}{{ m.role }}:";
    let check = |body: &str, opening: &str, answer: &str, expected: [&str; 2]| {
        let template =
            format!("{turns}{body}{{% endfor %}}{{% if add_generation_prompt %}}{opening}{{% endif %}}");
        assert_eq!(turn_texts(&template, &[Message::user("q")], answer), expected, "{template}");
    };
    let thinking =
        "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>";
    check(thinking, "assistant:", "yes", ["user:q$assistant:", "<think>\n\n</think>\n\nyes$"]);
    check("{{ m.content }}<|im_end|>", "assistant:<think>", "yes", ["user:q$assistant:", "yes$"]);
    check("{{ m.content }}<|im_end|>", "assistant:<think>", "<b>", ["user:q$assistant:<", "b>$"]);
    check("{{ m.content | trim }}<|im_end|>", "assistant:", " yes ", ["user:q$assistant:", "yes$"]);
    check("{{ m.content }}<|im_end|>", "", "yes", ["user:q$", "assistant:yes$"]);
}

#[test]
fn reasoning_may_be_written_anew_but_not_dropped() {
    let rewritten = "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}\
        {% set parts = m.content.split('</think>') %}<think>\n{{ parts[0].replace('<think>', '').strip() }}\n</think>\n\n\
        {{ parts[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";
    let [_, answer] = turn_texts(rewritten, &[Message::user("q")], "<think>two\nsteps</think>yes");
    assert_eq!(answer, "<think>\ntwo\nsteps\n</think>\n\nyes$");
    let dropped = "{% for m in messages %}{{ m.role }}:{{ m.content.split('</think>')[-1] }}<|im_end|>{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";
    let result =
        with(dropped).turn_ids(&[Message::user("q")], &Message::assistant("<think>steps</think>yes"));
    assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
}

#[test]
fn a_conversation_may_begin_with_the_assistant() {
    let turns = [Message::assistant("hello"), Message::user("q"), Message::assistant("yes")];
    check(&byte_tokenizer(), &turns, "hello$yes$");
    let with_default_system = "{% for m in messages %}{% if loop.first and m.role != 'system' %}system:s<|im_end|>{% endif %}\
        {{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    check(&with(with_default_system), &turns, "hello$yes$");
    // `messages[0]` of an empty conversation would be an error.
    let looks_ahead = format!("{{{{ messages[0].role.strip() }}}}|{with_default_system}");
    check(&with(&looks_ahead), &turns, "hello$yes$");
}

#[test]
fn only_the_turns_that_are_learnt_are_learnt() {
    let turns =
        [question_and_answer("one"), question_and_answer("two"), question_and_answer("three")].concat();
    let tokenizer = byte_tokenizer();
    let encoded = tokenizer.encode_conversation(&turns, |index| index == 3).expect("encodes");
    let whole = tokenizer.encode(&tokenizer.render(&turns[..4], false).expect("renders")).expect("encodes");
    assert_eq!(encoded.ids, whole[..whole.len() - 1], "all but the line end after the last turn");
    let trained = encoded.loss_mask.iter().filter(|trained| **trained).count();
    assert_eq!((trained, encoded.loss_mask.iter().rev().take_while(|trained| **trained).count()), (4, 4));
    let none = tokenizer.encode_conversation(&turns, |_| false);
    assert!(matches!(none, Err(TextError::EmptyLossMask { messages: 6 })), "{none:?}");
}

/// Calls, their results and the answer, as Qwen's and GPT-OSS's templates write them.
fn with_calls() -> Vec<Message> {
    serde_json::from_str(
        r#"[{"role":"user","content":"q"},
        {"role":"assistant","content":"Look.","tool_calls":[{"name":"f","arguments":{"x":"<|im_end|>"}},{"name":"g","arguments":{"y":"1"}}]},
        {"role":"tool","content":"<|im_end|>5"},{"role":"tool","content":"6"},
        {"role":"assistant","content":null,"tool_calls":[{"name":"f","arguments":{"x":"<|im_end|>"}}]},
        {"role":"tool","content":"7"},{"role":"assistant","content":"yes"}]"#,
    )
    .expect("messages")
}

const CALLS: &str = "{% for m in messages %}{{ m.role }}:{{ m.content }}\
    {% for c in m.tool_calls %}<{{ c.name }}>{{ c.arguments | tojson }}</>{% endfor %}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}assistant:{% endif %}";

#[test]
fn calls_are_learnt_up_to_the_end_behind_the_last_and_results_are_not() {
    let tokenizer = with(CALLS);
    let all = "Look.<f>{\"x\": \"$\"}</><g>{\"y\": \"1\"}</>$<f>{\"x\": \"$\"}</>$yes$";
    check(&tokenizer, &with_calls(), all);
    let encoded = tokenizer.encode_conversation(&with_calls(), |_| true).expect("encodes");
    let whole = tokenizer.encode(&tokenizer.render(&with_calls(), false).expect("renders")).expect("encodes");
    assert_eq!(encoded.ids, whole[..whole.len() - 1], "all but the line end after the last turn");
    check_learnt(&tokenizer, &with_calls()[..5], |index| index == 4, "<f>{\"x\": \"$\"}</>$");
    let turn = tokenizer.turn_ids(&with_calls()[..4], &with_calls()[4]).expect("encodes");
    assert_eq!(turn.prompt, tokenizer.prompt_ids(&with_calls()[..4]).expect("encodes"));
}

/// GPT-OSS ends a call with `<|call|>`, Llama 3.1 with `<|eom_id|>`; some templates end it with nothing.
#[test]
fn a_call_may_end_with_another_token_or_with_none() {
    let ending = |end: &str| {
        CALLS.replace(
            "{% endfor %}<|im_end|>",
            &format!("{{% endfor %}}{{{{ '{end}' if m.tool_calls else '<|im_end|>' }}}}"),
        )
    };
    let tokenizer = with(&ending("<|im_start|>"));
    let encoded = tokenizer.encode_conversation(&with_calls()[..5], |index| index == 4).expect("encodes");
    let start = tokenizer.token_to_id("<|im_start|>").expect("a token");
    assert_eq!(encoded.ids.last(), Some(&start));
    let whole = tokenizer.encode(&tokenizer.render(&with_calls(), false).expect("renders")).expect("encodes");
    let encoded = tokenizer.encode_conversation(&with_calls(), |_| true).expect("encodes");
    assert_eq!(encoded.ids, whole[..whole.len() - 1]);
    assert_eq!(
        encoded.loss_mask.iter().zip(&whole).filter(|(learnt, id)| **learnt && **id == start).count(),
        2
    );
    // The end of sequence is added, so that the model learns to stop.
    check_learnt(&with(&ending("")), &with_calls()[..5], |index| index == 4, "<f>{\"x\": \"$\"}</>$");
}

#[test]
fn a_call_whose_end_cannot_be_found_is_refused() {
    let by_name = with(&CALLS.replace("c.arguments | tojson", "c.arguments.x + '\n'"));
    let calling = [with_calls().swap_remove(0), with_calls().swap_remove(4)];
    let result = by_name.encode_conversation(&calling, |_| true);
    assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
}

#[test]
fn the_text_beside_a_call_may_not_be_dropped() {
    let dropping = with(&CALLS.replace("{{ m.content }}", "{{ m.content if not m.tool_calls }}"));
    let result = dropping.encode_conversation(&with_calls(), |_| true);
    assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
    check_learnt(&dropping, &with_calls(), |index| index == 6, "yes$");
}

#[test]
fn an_answer_is_found_whatever_the_templates_white_space() {
    let writing = |content: &str, end: &str| {
        with(&format!(
            "{{% for m in messages %}}{{{{ m.role }}}}:{{{{ {content} }}}}{end}{{% endfor %}}\
            {{% if add_generation_prompt %}}assistant:{{% endif %}}"
        ))
    };
    let narrow = "m.content.replace('\n\n', '\n').replace('  ', '')";
    check(&writing(narrow, "<|im_end|>"), &question_and_answer("a  b\n\nc\n\n"), "ab\nc\n$");
    check(&writing(narrow, ""), &question_and_answer("a  b\n\nc\n"), "ab\nc\n$");
    let wide = writing("m.content | list | join(' ')", "<|im_end|>");
    let result = wide.turn_ids(&[Message::user("q")], &Message::assistant("ab"));
    assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
}

/// ChatML with special tokens that take the white space on one side, `lstrip` or `rstrip`.
fn stripping(side: &str) -> ChatTokenizer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let definition =
        byte_tokenizer().definition.replace(&format!("\"{side}\": false"), &format!("\"{side}\": true"));
    std::fs::write(folder.path().join("tokenizer.json"), definition).expect("a file");
    let eos = "{\"eos_token\": \"<|im_end|>\"}";
    std::fs::write(folder.path().join("tokenizer_config.json"), eos).expect("a file");
    let tokenizer = ChatTokenizer::from_folder(folder.path()).expect("loads");
    tokenizer.with_template(crate::CHATML_TEMPLATE).expect("ChatML")
}

/// As `<|assistant|>` of Phi-3 takes the white space that an answer begins with.
#[test]
fn white_space_that_a_special_token_takes_is_not_learnt() {
    let opening = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>{% endif %}";
    let turns = [question_and_answer("\n one \n"), question_and_answer(" two ")].concat();
    for (side, expected) in [("rstrip", "one \n$two $"), ("lstrip", "\n one$ two$")] {
        let tokenizer = stripping(side).with_template(opening).expect("a template");
        check(&tokenizer, &turns, expected);
        let encoded = tokenizer.encode_conversation(&turns, |_| true).expect("encodes");
        let whole = tokenizer.encode(&tokenizer.render(&turns, false).expect("renders"));
        assert_eq!(encoded.ids, whole.expect("encodes"), "{side}");
    }
}

/// In templates that leave out empty turns, or the reasoning of earlier ones, what is looked for may stand in a later turn.
#[test]
fn nothing_of_a_later_turn_is_learnt() {
    let skipping = "{% for m in messages %}{% if m.content %}{{ m.role }}:{{ m.content }}<|im_end|>{% endif %}{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";
    let turns = [question_and_answer(""), question_and_answer("fine")].concat();
    let result = with(skipping).encode_conversation(&turns, |_| true);
    assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
    let forgetting = "{% for m in messages %}{{ m.role }}:\
        {% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}\
        <|im_end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    let turns = [
        Message::user("q"),
        Message::assistant("<think>ok</think>4"),
        Message::user("ok, but why is it 4"),
        Message::assistant("because"),
    ];
    let result = with(forgetting).encode_conversation(&turns, |_| true);
    assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
    check_learnt(&with(forgetting), &turns, |index| index == 3, "because$");
}

#[test]
fn an_answer_that_also_stands_in_the_header_is_found_behind_it() {
    let plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
        {% if add_generation_prompt %}assistant: {% endif %}";
    check(&with(plain), &[Message::assistant("a"), Message::user("q"), Message::assistant("s")], "as$");
    let ignoring = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    let turn = with(ignoring).turn_ids(&[Message::user("q")], &Message::assistant("is")).expect("encodes");
    assert_eq!(turn.answer.len(), "assistant: is".len() + 1);
}

#[test]
fn what_repeats_itself_is_not_searched_for_ever() {
    let dropping = "{% for m in messages %}{{ m.role }}:{{ m.content.split('</think>')[-1] }}<|im_end|>{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";
    for many in ["a ".repeat(100_000), "a".repeat(200_000)] {
        let answer = Message::assistant(format!("<think>{many}b</think>{many}"));
        let result = with(dropping).turn_ids(&[Message::user("q")], &answer);
        assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })));
    }
}

/// Phi-3's `<|end|>` includes the line end that the template writes after it.
#[test]
fn an_end_of_turn_that_swallows_space_does_so_between_turns() {
    let tokenizer = stripping("rstrip");
    let turns = [question_and_answer("one"), question_and_answer("two")].concat();
    let encoded = tokenizer.encode_conversation(&turns, |_| true).expect("encodes");
    let whole = tokenizer.encode(&tokenizer.render(&turns, false).expect("renders")).expect("encodes");
    assert_eq!(encoded.ids, whole);
    let line_ends = whole.windows(2).filter(|pair| pair[0] == END && pair[1] == u32::from(b'\n')).count();
    assert_eq!(line_ends, 0, "the case this test is about");
}

#[test]
fn a_template_without_an_end_of_turn_still_teaches_to_stop() {
    let plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
        {% if add_generation_prompt %}assistant: {% endif %}";
    let tokenizer = with(plain);
    assert_eq!(tokenizer.end_of_turn(), END, "the end of sequence");
    let turns = [question_and_answer("one"), question_and_answer("two")].concat();
    check(&tokenizer, &turns, "onetwo$");
}

#[test]
fn what_cannot_be_trained_faithfully_is_an_error() {
    let silent = byte_tokenizer().encode_conversation(&[Message::user("q")], |_| true);
    assert!(matches!(silent, Err(TextError::EmptyLossMask { messages: 1 })), "{silent:?}");
    assert!(matches!(
        byte_tokenizer().encode_conversation(&[], |_| true),
        Err(TextError::EmptyLossMask { messages: 0 })
    ));

    let counting = "{{ messages | length }}{% for m in messages %}{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";
    let result = with(counting).encode_conversation(&question_and_answer("yes"), |_| true);
    assert!(matches!(result, Err(TextError::NotPrefixPreserving { index: 1 })), "{result:?}");

    let shouting = "{% for m in messages %}{{ m.role }}:{{ m.content | upper }}<|im_end|>{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";
    let result = with(shouting).encode_conversation(&question_and_answer("yes"), |_| true);
    assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
}
