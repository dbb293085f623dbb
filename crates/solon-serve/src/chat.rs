//! `POST /v1/chat/completions`.

use crate::Served;
use crate::error::{ApiError, json_response};
use crate::fields::Fields;
use crate::http::Admitted;
use crate::request::{Answers, MOST_LIKELIEST, Telling, Wanted, finish_reason, usage};
use crate::stream::{Chunks, stream};
use crate::worker::Event;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use solon_infer::batch::Tokens;
use solon_records::{Message, TemplateInputs};
use std::sync::Arc;

/// Messages of one request. A template goes through all of them several times.
const MOST_MESSAGES: usize = 4096;

/// Answers a conversation.
pub(crate) async fn answer(
    served: Arc<Served>,
    admitted: Admitted,
    body: &[u8],
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(body)?;
    let wanted = Wanted::take(&mut fields, &served, false)?;
    let mut messages = messages(&mut fields)?;
    inputs(&mut fields)?.put_on(&mut messages);
    let with_logprobs = fields.take("logprobs")?.unwrap_or(false);
    let likeliest = fields.take("top_logprobs")?;
    if likeliest.is_some_and(|count| count > MOST_LIKELIEST) {
        let message = format!("top_logprobs may be {MOST_LIKELIEST} at most");
        return Err(ApiError::field("top_logprobs", message));
    }
    if likeliest.is_some() && !with_logprobs {
        return Err(ApiError::field("top_logprobs", "top_logprobs needs `\"logprobs\": true`"));
    }
    fields.finish()?;
    let prompt = move |served: &Served| Ok(served.model.prompt_ids("the conversation", &messages, 1)?);
    let prompt = served.beside(prompt).await?;
    let prompt_tokens = prompt.len();
    let telling =
        Telling { logprobs: with_logprobs, likeliest: likeliest.unwrap_or(0), ..Telling::default() };
    let answers = served.ask(&[prompt], &wanted, telling)?;
    let form = Form { id: served.next_id("chatcmpl"), with_logprobs, served };
    if wanted.stream {
        let chunks = ChatChunks { form, n: wanted.n, prompt_tokens };
        return Ok(stream(chunks, answers, wanted.include_usage, admitted));
    }
    form.whole(answers, prompt_tokens, admitted).await
}

/// The conversation.
fn messages(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let messages: Vec<Message> =
        fields.take("messages")?.ok_or_else(|| ApiError::field("messages", "`messages` is missing"))?;
    if messages.is_empty() {
        return Err(ApiError::field("messages", "`messages` is empty"));
    }
    if messages.len() > MOST_MESSAGES {
        let found = messages.len();
        let message = format!("`messages` has {found} messages; a request may have {MOST_MESSAGES} at most");
        return Err(ApiError::field("messages", message));
    }
    if TemplateInputs::of(&messages).is_some() {
        return Err(ApiError::field("messages", "`template_inputs` is not a field of a message"));
    }
    Ok(messages)
}

/// What the request gives to the chat template. Calls of tools are not read out of answers: they stand in the text as the model writes them.
fn inputs(fields: &mut Fields) -> Result<TemplateInputs, ApiError> {
    let wrong =
        |name: &'static str| move |reason: String| ApiError::field(name, format!("`{name}` {reason}"));
    let mut tools =
        TemplateInputs::read_tools(fields.take("tools")?.unwrap_or_default()).map_err(wrong("tools"))?;
    match fields.take::<Value>("tool_choice")? {
        None => {}
        Some(Value::String(choice)) if choice == "auto" => {}
        // A model that is shown no tools calls none.
        Some(Value::String(choice)) if choice == "none" => tools.clear(),
        Some(_) => {
            let message = "`tool_choice` may be `auto` or `none`; this server neither makes a model call a tool nor reads its calls";
            return Err(ApiError::field("tool_choice", message));
        }
    }
    let kwargs = fields.take("chat_template_kwargs")?.unwrap_or_default();
    let chat_template_kwargs = TemplateInputs::read_kwargs(kwargs).map_err(wrong("chat_template_kwargs"))?;
    Ok(TemplateInputs { tools, chat_template_kwargs })
}

/// What every response to a request has.
struct Form {
    id: String,
    with_logprobs: bool,
    served: Arc<Served>,
}

impl Form {
    async fn whole(
        self,
        answers: Answers,
        prompt_tokens: usize,
        admitted: Admitted,
    ) -> Result<Response, ApiError> {
        let answers = answers.whole().await?;
        let generated = answers.iter().map(|(.., end)| end.generated).sum();
        let choices: Vec<Value> = answers
            .into_iter()
            .enumerate()
            .map(|(index, (text, tokens, end))| {
                json!({
                    "index": index,
                    "message": {"role": "assistant", "content": text, "refusal": null},
                    "logprobs": self.logprobs(&tokens),
                    "finish_reason": finish_reason(end.finish),
                })
            })
            .collect();
        admitted.answered(prompt_tokens, generated);
        let body = json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.served.now(),
            "model": self.served.name,
            "choices": choices,
            "usage": usage(prompt_tokens, generated),
        });
        Ok(json_response(StatusCode::OK, &body))
    }

    /// Log-probs of tokens, where they are wanted.
    fn logprobs(&self, tokens: &Tokens) -> Value {
        if !self.with_logprobs {
            return Value::Null;
        }
        let shown = |id: u32, logprob: f32| {
            let text = &self.served.model.text;
            match text.token_text(id) {
                Some(token) => json!({"token": token, "bytes": token.as_bytes(), "logprob": logprob}),
                // A part of a character, or a special token.
                None => json!({"token": text.id_to_token(id), "bytes": null, "logprob": logprob}),
            }
        };
        let content = tokens.ids.iter().zip(&tokens.logprobs).enumerate().map(|(place, (id, logprob))| {
            let mut entry = shown(*id, *logprob);
            let likeliest = tokens.likeliest.get(place).into_iter().flatten();
            entry["top_logprobs"] = likeliest.map(|(id, logprob)| shown(*id, *logprob)).collect();
            entry
        });
        json!({"content": content.collect::<Vec<_>>(), "refusal": null})
    }
}

/// The chunks of a streamed answer.
struct ChatChunks {
    form: Form,
    n: usize,
    prompt_tokens: usize,
}

impl ChatChunks {
    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.form.id,
            "object": "chat.completion.chunk",
            "created": self.form.served.now(),
            "model": self.form.served.name,
            "choices": choices,
        })
    }
}

impl Chunks for ChatChunks {
    fn first(&self) -> Vec<Value> {
        let opened = |index| {
            let delta = json!({"role": "assistant", "content": ""});
            self.chunk(json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": null}]))
        };
        (0..self.n).map(opened).collect()
    }

    fn of(&self, index: usize, event: Event) -> Value {
        let choice = match event {
            Event::Piece(text, tokens) => json!({
                "index": index,
                "delta": {"content": text},
                "logprobs": self.form.logprobs(&tokens),
                "finish_reason": null,
            }),
            Event::End(end) => json!({
                "index": index,
                "delta": {},
                "logprobs": null,
                "finish_reason": finish_reason(end.finish),
            }),
        };
        self.chunk(json!([choice]))
    }

    fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    fn usage(&self, generated: usize) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["usage"] = usage(self.prompt_tokens, generated);
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<TemplateInputs, String> {
        let mut fields = Fields::parse(body.as_bytes()).unwrap();
        let read = inputs(&mut fields).and_then(|inputs| fields.finish().map(|()| inputs));
        read.map_err(|error| error.body()["error"]["message"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_request_has_a_bounded_number_of_messages() {
        let read = |count: usize| {
            let body = json!({"messages": vec![json!({"role": "user", "content": "q"}); count]}).to_string();
            let read = messages(&mut Fields::parse(body.as_bytes()).unwrap());
            read.map(|messages| messages.len()).map_err(|error| error.body()["error"]["message"].to_string())
        };
        assert_eq!(read(4096), Ok(4096));
        assert!(read(4097).unwrap_err().contains("4097 messages; a request may have 4096 at most"));
        assert!(read(0).unwrap_err().contains("is empty"));
    }

    #[test]
    fn tools_and_variables_are_for_the_template_and_no_call_is_forced() {
        let tools = r#""tools": [{"type": "function", "function": {"name": "f"}}]"#;
        let read_tools = |rest: &str| read(&format!("{{{tools}{rest}}}")).map(|inputs| inputs.tools.len());
        assert_eq!(read_tools(""), Ok(1));
        assert_eq!(read_tools(r#", "tool_choice": "auto""#), Ok(1));
        assert_eq!(read_tools(r#", "tool_choice": "none""#), Ok(0));
        for choice in [r#""required""#, r#"{"type": "function", "function": {"name": "f"}}"#] {
            let error = read_tools(&format!(r#", "tool_choice": {choice}"#)).unwrap_err();
            assert!(error.starts_with("`tool_choice` may be `auto` or `none`"), "{error}");
        }
        let inputs = read(r#"{"chat_template_kwargs": {"enable_thinking": false}}"#).unwrap();
        assert_eq!(inputs.chat_template_kwargs["enable_thinking"], false);
        assert!(
            read(r#"{"chat_template_kwargs": {"messages": 1}}"#)
                .unwrap_err()
                .starts_with("`chat_template_kwargs` `messages`")
        );
        assert!(read(r#"{"tools": ["f"]}"#).unwrap_err().starts_with("`tools` must be a list"));
        assert!(
            read(r#"{"functions": [{"name": "f"}]}"#)
                .unwrap_err()
                .starts_with("`functions` is not supported")
        );
    }
}
