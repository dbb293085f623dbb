//! `POST /v1/completions`: texts or token ids to continue, with log-probs, and with `echo` those of the prompt too.

use crate::Served;
use crate::error::{ApiError, json_response};
use crate::fields::Fields;
use crate::http::Admitted;
use crate::request::{MOST_LIKELIEST, Telling, Wanted, finish_reason, usage};
use crate::stream::{Chunks, stream};
use crate::worker::Event;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use solon_infer::batch::Tokens;
use solon_text::{ChatTokenizer, StreamDecoder};
use std::sync::Arc;

/// A text, its token ids, or a list of either.
#[derive(Deserialize)]
#[serde(untagged)]
enum Prompts {
    Text(String),
    Ids(Vec<u32>),
    Texts(Vec<String>),
    ManyIds(Vec<Vec<u32>>),
}

/// A prompt as text and as ids.
struct Prompt {
    text: String,
    ids: Vec<u32>,
}

impl Prompts {
    fn count(&self) -> usize {
        match self {
            Self::Text(_) | Self::Ids(_) => 1,
            Self::Texts(texts) => texts.len(),
            Self::ManyIds(many) => many.len(),
        }
    }

    fn read(self, tokenizer: &ChatTokenizer) -> Result<Vec<Prompt>, ApiError> {
        let of_text = |text: String| {
            // A text of its own: with the special tokens that the tokenizer puts around one.
            let (ids, _) =
                tokenizer.following_ids(&text, "", true).map_err(|e| ApiError::refused(e.to_string()))?;
            Ok(Prompt { text, ids })
        };
        let of_ids = |ids: Vec<u32>| Ok(Prompt { text: tokenizer.decode(&ids), ids });
        match self {
            Self::Text(text) => Ok(vec![of_text(text)?]),
            Self::Ids(ids) => Ok(vec![of_ids(ids)?]),
            Self::Texts(texts) => texts.into_iter().map(of_text).collect(),
            Self::ManyIds(many) => many.into_iter().map(of_ids).collect(),
        }
    }
}

/// Continues prompts.
pub(crate) async fn answer(
    served: Arc<Served>,
    admitted: Admitted,
    body: &[u8],
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(body)?;
    let echo = fields.take("echo")?.unwrap_or(false);
    let mut wanted = Wanted::take(&mut fields, &served, echo)?;
    let form = "`prompt` must be a text, a list of token ids, or a list of either";
    let prompts =
        fields.take::<Value>("prompt")?.ok_or_else(|| ApiError::field("prompt", "`prompt` is missing"))?;
    let prompts = Prompts::deserialize(prompts).map_err(|_| ApiError::field("prompt", form))?;
    served.check_sequences(prompts.count(), wanted.n)?;
    let prompts = served.beside(move |served| prompts.read(&served.model.text)).await?;
    if prompts.is_empty() {
        return Err(ApiError::field("prompt", form));
    }
    let logprobs: Option<usize> = fields.take("logprobs")?;
    if logprobs.is_some_and(|count| count > MOST_LIKELIEST) {
        return Err(ApiError::field("logprobs", format!("logprobs may be {MOST_LIKELIEST} at most")));
    }
    if let Some(best_of) = fields.take::<usize>("best_of")?
        && best_of != wanted.n
    {
        return Err(ApiError::field("best_of", "`best_of` is not supported; leave it out"));
    }
    if echo && wanted.stream {
        return Err(ApiError::field("echo", "`echo` cannot be streamed"));
    }
    fields.finish()?;
    // OpenAI's default is 16 here, and the rest of the context in chats.
    wanted.default_max_tokens(16);
    let telling = Telling {
        logprobs: logprobs.is_some(),
        read_prompt: echo && logprobs.is_some(),
        likeliest: logprobs.unwrap_or(0),
        // lm-evaluation-harness takes it that there is a token for each that was asked for.
        end_of_turn: true,
    };
    let ids: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
    let answers = served.ask(&ids, &wanted, telling)?;
    let prompt_tokens = ids.iter().map(Vec::len).sum();
    let form = Form { id: served.next_id("cmpl"), logprobs: logprobs.is_some(), served };
    if wanted.stream {
        let chunks = CompletionChunks { form, prompt_tokens };
        return Ok(stream(chunks, answers, wanted.include_usage, admitted));
    }
    let answers = answers.whole().await?;
    let generated = answers.iter().map(|(.., end)| end.generated).sum();
    let choices = answers.iter().enumerate().map(|(index, (text, tokens, end))| {
        let prompt = index / wanted.n;
        let echoed = echo.then(|| (&prompts[prompt], &answers[prompt * wanted.n].2.prompt));
        form.choice(index, echoed, text, tokens, Some(finish_reason(end.finish)))
    });
    let choices: Vec<Value> = choices.collect();
    admitted.answered(prompt_tokens, generated);
    let mut body = form.body(choices.into());
    body["usage"] = usage(prompt_tokens, generated);
    Ok(json_response(StatusCode::OK, &body))
}

/// What every response to a request has.
struct Form {
    id: String,
    logprobs: bool,
    served: Arc<Served>,
}

impl Form {
    fn body(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.served.now(),
            "model": self.served.name,
            "choices": choices,
        })
    }

    /// One choice. `echoed`: the prompt, if it is repeated before the text, and what was read of it.
    fn choice(
        &self,
        index: usize,
        echoed: Option<(&Prompt, &Tokens)>,
        text: &str,
        tokens: &Tokens,
        finish_reason: Option<&str>,
    ) -> Value {
        let before = echoed.map(|(prompt, _)| prompt.text.as_str()).unwrap_or_default();
        let shown = || {
            let mut shown = Shown::of(&self.served.model.text);
            if let Some((prompt, read)) = echoed {
                // Nothing predicts the first token.
                shown.push(prompt.ids[0], None, None);
                shown.extend(read);
            }
            shown.extend(tokens);
            shown.json()
        };
        json!({
            "index": index,
            "text": format!("{before}{text}"),
            "logprobs": self.logprobs.then(shown),
            "finish_reason": finish_reason,
        })
    }
}

/// Tokens in the form of this request's log-probs.
struct Shown<'a> {
    tokenizer: &'a ChatTokenizer,
    /// Knows where in the text a token begins.
    decoder: StreamDecoder<'a>,
    length: usize,
    tokens: Vec<String>,
    logprobs: Vec<Option<f32>>,
    likeliest: Vec<Value>,
    offsets: Vec<usize>,
}

impl<'a> Shown<'a> {
    fn of(tokenizer: &'a ChatTokenizer) -> Self {
        let (tokens, logprobs, likeliest, offsets) = Default::default();
        let decoder = tokenizer.stream_decoder();
        Self { tokenizer, decoder, length: 0, tokens, logprobs, likeliest, offsets }
    }

    fn extend(&mut self, tokens: &Tokens) {
        for (place, (id, logprob)) in tokens.ids.iter().zip(&tokens.logprobs).enumerate() {
            self.push(*id, Some(*logprob), tokens.likeliest.get(place));
        }
    }

    fn push(&mut self, id: u32, logprob: Option<f32>, likeliest: Option<&Vec<(u32, f32)>>) {
        self.offsets.push(self.length);
        self.length += self.decoder.push(id).chars().count();
        self.tokens.push(self.name(id));
        self.logprobs.push(logprob);
        self.likeliest.push(match likeliest {
            Some(found) => {
                let shown = found.iter().map(|(id, logprob)| (self.name(*id), json!(logprob)));
                Value::Object(shown.collect::<Map<_, _>>())
            }
            None => Value::Null,
        });
    }

    /// A token's text; where it has none of its own, its name in the vocabulary.
    fn name(&self, id: u32) -> String {
        self.tokenizer.token_text(id).or_else(|| self.tokenizer.id_to_token(id)).unwrap_or_default()
    }

    fn json(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.logprobs,
            "top_logprobs": self.likeliest,
            "text_offset": self.offsets,
        })
    }
}

/// The chunks of streamed completions.
struct CompletionChunks {
    form: Form,
    prompt_tokens: usize,
}

impl Chunks for CompletionChunks {
    fn first(&self) -> Vec<Value> {
        Vec::new()
    }

    fn of(&self, index: usize, event: Event) -> Value {
        let choice = match event {
            Event::Piece(text, tokens) => self.form.choice(index, None, &text, &tokens, None),
            Event::End(end) => {
                let reason = finish_reason(end.finish);
                json!({"index": index, "text": "", "logprobs": null, "finish_reason": reason})
            }
        };
        self.form.body(json!([choice]))
    }

    fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    fn usage(&self, generated: usize) -> Value {
        let mut chunk = self.form.body(json!([]));
        chunk["usage"] = usage(self.prompt_tokens, generated);
        chunk
    }
}
