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
use solon_records::Message;
use std::sync::Arc;

/// Answers a conversation.
pub(crate) async fn answer(
    served: Arc<Served>,
    admitted: Admitted,
    body: &[u8],
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(body)?;
    let wanted = Wanted::take(&mut fields, &served, false)?;
    let messages: Vec<Message> =
        fields.take("messages")?.ok_or_else(|| ApiError::field("messages", "`messages` is missing"))?;
    if messages.is_empty() {
        return Err(ApiError::field("messages", "`messages` is empty"));
    }
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
