//! What chat completions and completions share: the model, sampling, how many answers, and whether they are streamed.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::worker::{End, Event, Job};
use crate::{Limits, Served};
use serde_json::{Value, json};
use solon_draws::Draws;
use solon_infer::batch::Tokens;
use solon_infer::generate::Finish;
use solon_records::SamplingSettings;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Most stop strings of a request.
const MOST_STOPS: usize = 16;
/// Longest stop string: it is compared with the text after every token.
const MOST_STOP_BYTES: usize = 1000;
/// Most log-probs of one request, because each becomes an entry of the response.
const MOST_LOGPROBS: usize = 1 << 22;
/// Most alternatives that are listed for a token.
pub(crate) const MOST_LIKELIEST: usize = 20;

/// How a request wants to be answered.
pub(crate) struct Wanted {
    /// Without a number of new tokens: that depends on the prompt.
    sampling: SamplingSettings,
    max_tokens: Option<usize>,
    seed: Option<u64>,
    /// Answers to each prompt.
    pub n: usize,
    pub stream: bool,
    pub include_usage: bool,
}

impl Wanted {
    /// Reads the shared fields. `or_none`: no new token at all may be asked for.
    pub fn take(fields: &mut Fields, served: &Served, or_none: bool) -> Result<Self, ApiError> {
        if let Some(model) = fields.take::<String>("model")?
            && model != served.name
        {
            return Err(ApiError::unknown_model(&model, &served.name));
        }
        let max_tokens = match (fields.take("max_completion_tokens")?, fields.take("max_tokens")?) {
            (Some(new), Some(old)) if new != old => {
                let message = "max_tokens and max_completion_tokens are different; give one of them";
                return Err(ApiError::field("max_tokens", message));
            }
            (new, old) => new.or(old),
        };
        let Limits { max_new_tokens, max_sequences, .. } = served.limits;
        if let Some(most) = max_tokens
            && (most > max_new_tokens || (most == 0 && !or_none))
        {
            let least = if or_none { 0 } else { 1 };
            let message = format!("max_tokens is {most}; this server allows {least} to {max_new_tokens}");
            return Err(ApiError::field("max_tokens", message));
        }
        let stop = match fields.take::<Value>("stop")? {
            None => Vec::new(),
            Some(Value::String(stop)) => vec![stop],
            Some(stops) => serde_json::from_value(stops)
                .map_err(|_| ApiError::field("stop", "`stop` must be a string or a list of strings"))?,
        };
        if stop.len() > MOST_STOPS {
            return Err(ApiError::field("stop", format!("`stop` may have {MOST_STOPS} strings at most")));
        }
        if stop.iter().any(|stop| stop.len() > MOST_STOP_BYTES) {
            let message = format!("a string of `stop` may have {MOST_STOP_BYTES} bytes at most");
            return Err(ApiError::field("stop", message));
        }
        let mut sampling = SamplingSettings { stop, ..SamplingSettings::of_length(1) };
        if let Some(temperature) = fields.take("temperature")? {
            sampling.temperature = temperature;
        }
        if let Some(top_p) = fields.take("top_p")? {
            sampling.top_p = top_p;
        }
        if let Some(top_k) = fields.take::<i64>("top_k")? {
            // -1 is how vLLM's clients say all.
            sampling.top_k = usize::try_from(top_k.max(0)).unwrap_or_default();
        }
        if let Some(min_p) = fields.take("min_p")? {
            sampling.min_p = min_p;
        }
        sampling.validate().map_err(ApiError::refused)?;
        let n = fields.take("n")?.unwrap_or(1);
        if !(1..=max_sequences).contains(&n) {
            return Err(ApiError::field("n", format!("n is {n}; this server allows 1 to {max_sequences}")));
        }
        let seed = fields.take::<i64>("seed")?.map(|seed| seed as u64);
        let stream = fields.take("stream")?.unwrap_or(false);
        let options: Option<Value> = fields.take("stream_options")?;
        let include_usage = options.is_some_and(|options| options["include_usage"] == true);
        Ok(Self { sampling, max_tokens, seed, n, stream, include_usage })
    }

    /// How many new tokens there are at most, where the request does not say.
    pub fn default_max_tokens(&mut self, most: usize) {
        self.max_tokens = self.max_tokens.or(Some(most));
    }
}

/// How much is told of the tokens.
#[derive(Clone, Copy, Default)]
pub(crate) struct Telling {
    /// Whether log-probs are told at all.
    pub logprobs: bool,
    /// Whether the prompt's own log-probs are wanted. They are read once for all answers to it, with the first.
    pub read_prompt: bool,
    /// Likeliest tokens in place of each.
    pub likeliest: usize,
    /// Whether the end of turn is told of too.
    pub end_of_turn: bool,
}

/// What comes of a request's sequences, as it comes.
pub(crate) struct Answers {
    events: UnboundedReceiver<(usize, Event)>,
    left: usize,
}

impl Answers {
    /// The next event, with the sequence that it is of; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<(usize, Event)>, ApiError> {
        if self.left == 0 {
            return Ok(None);
        }
        let (index, event) = self.events.recv().await.ok_or_else(ApiError::ended)?;
        if matches!(event, Event::End(_)) {
            self.left -= 1;
        }
        Ok(Some((index, event)))
    }

    /// All of it: for each sequence its text, its tokens and its end.
    pub async fn whole(mut self) -> Result<Vec<(String, Tokens, End)>, ApiError> {
        let mut said: Vec<(String, Tokens)> = vec![Default::default(); self.left];
        let mut ends: Vec<Option<End>> = said.iter().map(|_| None).collect();
        while let Some((index, event)) = self.next().await? {
            match event {
                Event::Piece(text, tokens) => {
                    said[index].0 += &text;
                    said[index].1.ids.extend(tokens.ids);
                    said[index].1.logprobs.extend(tokens.logprobs);
                    said[index].1.likeliest.extend(tokens.likeliest);
                }
                Event::End(end) => ends[index] = Some(end),
            }
        }
        Ok(said
            .into_iter()
            .zip(ends)
            .filter_map(|((text, tokens), end)| Some((text, tokens, end?)))
            .collect())
    }
}

impl Served {
    /// Number of sequences of a request, if that is not too many. To be known before prompts are tokenised.
    pub fn check_sequences(&self, prompts: usize, n: usize) -> Result<usize, ApiError> {
        let (sequences, most) = (prompts.saturating_mul(n), self.limits.max_sequences);
        if sequences > most {
            let message = format!(
                "{prompts} prompts with n = {n} are {sequences} sequences; this server allows {most}"
            );
            return Err(ApiError::refused(message));
        }
        Ok(sequences)
    }

    /// Does work on the text of a request beside the thread that serves all of them.
    pub async fn beside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let served = self.clone();
        tokio::task::spawn_blocking(move || work(&served)).await.map_err(|_| ApiError::ended())?
    }

    /// Checks prompts against the context, and gives them to the engine, each `wanted.n` times.
    pub fn ask(&self, prompts: &[Vec<u32>], wanted: &Wanted, telling: Telling) -> Result<Answers, ApiError> {
        let (context, most) = (self.model.config().max_position_embeddings, self.limits.max_new_tokens);
        let vocabulary = self.model.config().vocab_size;
        let sequences = self.check_sequences(prompts.len(), wanted.n)?;
        let mut new_tokens = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            if prompt.is_empty() {
                return Err(ApiError::refused("the prompt has no tokens"));
            }
            if let Some(id) = prompt.iter().find(|id| **id as usize >= vocabulary) {
                return Err(ApiError::refused(format!("the token id {id} is not below {vocabulary}")));
            }
            let room = context.saturating_sub(prompt.len());
            let new = wanted.max_tokens.unwrap_or(room.min(most));
            // A prompt that is read and not continued may fill the context, and no more.
            if prompt.len() + new > context || (new == 0 && wanted.max_tokens.is_none()) {
                let message = format!(
                    "{} tokens of prompt and {} new ones do not fit the model's context of {context}",
                    prompt.len(),
                    new.max(1)
                );
                return Err(ApiError::too_long(message));
            }
            new_tokens.push(new);
        }
        let read = if telling.read_prompt { prompts.iter().map(Vec::len).sum() } else { 0 };
        let positions = read + wanted.n * new_tokens.iter().sum::<usize>();
        if telling.logprobs && positions.saturating_mul(1 + telling.likeliest) > MOST_LOGPROBS {
            let message = format!(
                "{positions} tokens with {} log-probs each are more than {MOST_LOGPROBS}; ask for fewer at a time",
                1 + telling.likeliest
            );
            return Err(ApiError::field("logprobs", message));
        }
        let draws = match wanted.seed {
            Some(seed) => Draws::new(seed, "serve/seed"),
            None => Draws::new(0, "serve").index(self.asked.fetch_add(1, Ordering::Relaxed)),
        };
        let (sender, events) = unbounded_channel();
        for (place, (prompt, max_new_tokens)) in prompts.iter().zip(new_tokens).enumerate() {
            let sampling = Arc::new(SamplingSettings { max_new_tokens, ..wanted.sampling.clone() });
            for answer in 0..wanted.n {
                let index = place * wanted.n + answer;
                let job = Job {
                    prompt: prompt.clone(),
                    draws: draws.index(index as u64),
                    sampling: sampling.clone(),
                    read_prompt: telling.read_prompt && answer == 0,
                    likeliest: telling.likeliest,
                    end_of_turn: telling.end_of_turn,
                    stream: wanted.stream,
                    index,
                    events: sender.clone(),
                };
                self.jobs.send(job).map_err(|_| ApiError::ended())?;
            }
        }
        Ok(Answers { events, left: sequences })
    }
}

/// OpenAI's name of an ending.
pub(crate) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// Token counts.
pub(crate) fn usage(prompt_tokens: usize, completion_tokens: usize) -> Value {
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    })
}
