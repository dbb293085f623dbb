//! A model with its tokenizer and chat template: answers conversations and scores answers.

use crate::checkpoint_text::open_text;
use crate::engine::Engine;
use crate::generate::{Completion, Finish, Request, Settings};
use crate::prefixes::KEPT;
use crate::score::ScoreItem;
use solon_draws::Draws;
use solon_kernels::Precision;
use solon_model::weights::{AdapterFile, Checkpoint, Description, TokenIds, WeightsError};
use solon_model::{Adapter, Decoder, Device, ModelConfig, ScalarHead, Training};
use solon_records::{Context, Message, SamplingSettings};
use solon_text::{ChatTokenizer, Closing, TextError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of opening a model or answering a conversation.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// Weights, configuration or adapter files.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Tokenizer or chat template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The adapter was not made for this model.
    #[error("the adapter {path} does not fit the model: {reason}")]
    Adapter {
        /// The adapter's folder.
        path: PathBuf,
        /// Why it does not fit.
        reason: String,
    },
    /// The prompt and the answer have more tokens than the model's context.
    #[error(
        "{id}: {tokens} tokens of prompt and answer do not fit the model's context of {context}\n\
         hint: shorten the prompt, or ask for fewer new tokens"
    )]
    TooLong {
        /// Which request.
        id: String,
        /// Tokens of the prompt and the answer.
        tokens: usize,
        /// Length of the context.
        context: usize,
    },
    /// The model gives no number.
    #[error("{id}: a log-prob is not finite\nhint: are the model's weights whole?")]
    NotFinite {
        /// Which request.
        id: String,
    },
    /// An option of an item cannot be scored.
    #[error(
        "{id}: the option {option:?} has {tokens} tokens; it needs at least one, and at most the model's context of {context}"
    )]
    Option {
        /// Which request.
        id: String,
        /// The option.
        option: String,
        /// Its tokens.
        tokens: usize,
        /// Length of the context.
        context: usize,
    },
    /// It is a reward model.
    #[error(
        "{} is a reward model: it scores answers and writes none\nhint: name the model it was trained from; `solon score` prints its rewards, and \
         `solon label --ask reward` and `solon judge report --ask reward` score with it",
        path.display()
    )]
    Scoring {
        /// The model, or the adapter.
        path: PathBuf,
    },
    /// The prompt has no tokens.
    #[error("{id}: the prompt is empty: it has no tokens")]
    EmptyPrompt {
        /// Which request.
        id: String,
    },
    /// The tokenizer has ids that the model does not have.
    #[error(
        "the tokenizer has {tokenizer} tokens, the model's embedding has {model}\n\
         hint: use the tokenizer that belongs to the model"
    )]
    Vocabulary {
        /// Ids of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
    },
}

/// Settings to open a model with.
#[derive(Clone, Copy, Debug)]
pub struct OpenSettings {
    /// Number format to which inputs of matrix products are rounded.
    pub precision: Precision,
    /// Whether it will be trained.
    pub training: Training,
}

/// A model with its tokenizer and chat template.
pub struct ChatModel {
    /// The decoder.
    pub decoder: Arc<Decoder<Device>>,
    /// The adapter it was opened with.
    pub adapter: Option<Adapter<Device>>,
    /// The scalar head of a reward model.
    pub score: Option<ScalarHead<Device>>,
    /// Tokenizer and template.
    pub text: ChatTokenizer,
    /// The path it was opened from.
    pub path: PathBuf,
    /// `pad_token_id` for scores ([`closing`](Self::closing)).
    padding: Option<u32>,
}

/// A conversation to answer, or a text to continue.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// Names it in errors.
    pub id: String,
    /// What stands before the answer.
    pub context: Context,
    /// The text that the answer must start with; may be empty.
    pub prefill: String,
    /// The key of its draws.
    pub draws: Draws,
}

/// How conversations are answered.
#[derive(Clone, Debug)]
pub struct AnswerSettings {
    /// How tokens are chosen, and where an answer ends.
    pub sampling: SamplingSettings,
    /// Number of answers sampled at the same time.
    pub slots: usize,
}

/// A conversation or a text, and what may follow it.
#[derive(Clone, Debug)]
pub struct OptionsRequest {
    /// Names it in errors.
    pub id: String,
    /// What stands before each option.
    pub context: Context,
    /// The options exactly as they follow, white space included.
    pub options: Vec<String>,
}

/// How likely each option is.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Of each option in nats, summed over its tokens.
    pub log_probs: Vec<f64>,
    /// Whether the start of the context was left out, because the model's context is shorter.
    pub truncated: bool,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The prefill and the generated text, without the end of turn and without the stop string.
    pub text: String,
    /// The tokens as they were generated.
    pub completion: Completion,
}

impl ChatModel {
    /// Opens a Hugging Face folder or a GGUF file, with a PEFT adapter where one is given.
    pub fn open(path: &Path, adapter: Option<&Path>, settings: OpenSettings) -> Result<Self, ChatError> {
        let mut checkpoint = Checkpoint::open(path)?;
        let text = open_text(&checkpoint.text)?;
        if text.vocab_size() > checkpoint.config.vocab_size {
            return Err(ChatError::Vocabulary {
                tokenizer: text.vocab_size(),
                model: checkpoint.config.vocab_size,
            });
        }
        let backend = Device::new(settings.precision);
        let mut tensors = std::mem::take(&mut checkpoint.tensors);
        let positions = checkpoint.config.max_position_embeddings;
        // `Checkpoint::open` has checked that every tensor exists.
        let take = |name: &str, _: &[usize]| {
            Ok::<_, std::convert::Infallible>(tensors.remove(name).map(|t| t.data).unwrap_or_default())
        };
        let Ok(decoder) =
            Decoder::build(backend, checkpoint.config.clone(), settings.training, positions, take);
        let file = adapter.map(AdapterFile::open).transpose()?;
        // A folder that scores says what its padding is.
        let padding = match checkpoint.score {
            Some(_) => checkpoint.padding,
            None => text.padding_to_score(),
        };
        let mut head = checkpoint.score;
        let adapter = match (&file, adapter) {
            (Some(file), Some(folder)) => {
                head = file.score.clone().or(head);
                let fitted = Adapter::from_file(&backend, &checkpoint.config, file)
                    .map_err(|reason| ChatError::Adapter { path: folder.to_owned(), reason })?;
                Some(fitted)
            }
            _ => None,
        };
        let score = head.map(|tensor| ScalarHead::new(&backend, tensor.data));
        Ok(Self { decoder: Arc::new(decoder), adapter, score, text, path: path.to_owned(), padding })
    }

    /// Refuses a reward model: it has no language head, or an adapter that was trained under another one.
    pub fn check_writes(&self) -> Result<(), ChatError> {
        match &self.score {
            None => Ok(()),
            Some(_) => Err(ChatError::Scoring { path: self.path.clone() }),
        }
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// How conversations close for a reward model on this model.
    pub fn closing(&self) -> Closing {
        self.text.closing(self.padding)
    }

    /// The tokenizer's files and the special token ids for a saved folder, of a model that `scores` or one that writes.
    pub fn saved_text(&self, scores: bool) -> Result<(Vec<(String, Vec<u8>)>, TokenIds), TextError> {
        let pad = if scores { self.padding } else { self.text.pad() };
        let ids = TokenIds { bos: self.text.bos(), eos: self.text.stop_ids().to_vec(), pad };
        Ok((self.text.export_files_padded(pad)?, ids))
    }

    /// Tokens of a conversation with the generation prompt; an error if `new` more tokens would not fit.
    pub fn prompt_ids(&self, id: &str, messages: &[Message], new: usize) -> Result<Vec<u32>, ChatError> {
        self.fitting(id, self.text.prompt_ids(messages)?, new)
    }

    /// The same of a conversation or of a text, which gets the special tokens that the tokenizer puts around one.
    pub fn context_ids(&self, id: &str, context: &Context, new: usize) -> Result<Vec<u32>, ChatError> {
        match context {
            Context::Chat(messages) => self.prompt_ids(id, messages, new),
            Context::Text(text) => self.fitting(id, self.text.following_ids(text, "", true)?.0, new),
        }
    }

    /// The ids of a conversation and of answers to it, as they are learnt and scored ([`ChatTokenizer::turns_ids`]); an error if it and an answer do not fit.
    pub fn turns(
        &self,
        id: &str,
        messages: &[Message],
        answers: &[Message],
    ) -> Result<(Vec<u32>, Vec<Vec<u32>>), ChatError> {
        let (prompt, answers) = self.text.turns_ids(messages, answers)?;
        let longest = answers.iter().map(Vec::len).max().unwrap_or(0);
        Ok((self.fitting(id, prompt, longest)?, answers))
    }

    fn fitting(&self, id: &str, ids: Vec<u32>, new: usize) -> Result<Vec<u32>, ChatError> {
        if ids.is_empty() {
            return Err(ChatError::EmptyPrompt { id: id.to_owned() });
        }
        self.check_fits(id, ids.len() + new)?;
        Ok(ids)
    }

    /// Refuses more tokens than the model's context.
    pub fn check_fits(&self, id: &str, tokens: usize) -> Result<(), ChatError> {
        let context = self.config().max_position_embeddings;
        match tokens <= context {
            true => Ok(()),
            false => Err(ChatError::TooLong { id: id.to_owned(), tokens, context }),
        }
    }

    /// An engine on the decoder with the given adapter, not the model's own. So several adapters can share the decoder.
    pub fn engine<'a>(&'a self, adapter: Option<&'a Adapter<Device>>) -> Engine<'a, Device> {
        Engine::new(&self.decoder, adapter, KEPT)
    }

    /// Answers conversations, and continues texts, with an engine of this model.
    pub fn answer(
        &self,
        engine: &mut Engine<'_, Device>,
        requests: &[ChatRequest],
        settings: &AnswerSettings,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Answer>, ChatError> {
        self.check_writes()?;
        let prefills: Vec<Vec<u32>> =
            requests.iter().map(|request| self.prefill_ids(&request.prefill)).collect::<Result<_, _>>()?;
        let requests: Vec<Request> = requests
            .iter()
            .zip(&prefills)
            .map(|(request, prefill)| {
                let new = prefill.len() + settings.sampling.max_new_tokens;
                let prompt =
                    [self.context_ids(&request.id, &request.context, new)?, prefill.clone()].concat();
                Ok(Request { prompt, draws: request.draws })
            })
            .collect::<Result<_, ChatError>>()?;
        let stop = &settings.sampling.stop;
        let stops = |ids: &[u32]| self.stop_at(ids, stop).is_some();
        let generation = Settings {
            sampling: settings.sampling.clone(),
            stop_ids: self.text.stop_ids(),
            stop_text: if stop.is_empty() { None } else { Some(&stops) },
            slots: settings.slots,
            logprob_temperature: 1.0,
        };
        let completions = engine.generate(&requests, &generation, progress);
        Ok(completions
            .into_iter()
            .zip(prefills)
            .map(|(completion, prefill)| {
                // Decoded together, because a tokenizer may drop white space at the start of a text.
                let mut text = self.text.decode(&[&prefill, &completion.token_ids[..]].concat());
                if let Some(at) = self.stop_at(&completion.token_ids, stop) {
                    let after = self.text.decode(&completion.token_ids).len() - at;
                    text.truncate(text.len() - after);
                }
                Answer { text, completion }
            })
            .collect())
    }

    /// The tokens of the prefill.
    fn prefill_ids(&self, prefill: &str) -> Result<Vec<u32>, ChatError> {
        if prefill.is_empty() {
            // Some templates leave white space at the start to the model. An empty prefill must not fix it.
            return Ok(Vec::new());
        }
        Ok(self.text.continuation_ids(prefill)?)
    }

    /// Where in the decoded text the first stop string begins.
    fn stop_at(&self, ids: &[u32], stop: &[String]) -> Option<usize> {
        let text = self.text.decode(ids);
        stop.iter().filter_map(|s| text.find(s.as_str())).min()
    }

    /// How likely each option is to follow its context. Context and option are encoded as one text
    /// ([`ChatTokenizer::following_ids`]); no end of turn is scored. A context that is too long loses its start. An
    /// empty one is replaced by the token that begins or ends a sequence.
    ///
    /// Errors if an option has no tokens, or alone more than the model's context, and if a log-prob is not finite.
    pub fn options(
        &self,
        engine: &mut Engine<'_, Device>,
        requests: &[OptionsRequest],
    ) -> Result<Vec<Options>, ChatError> {
        self.check_writes()?;
        let longest = self.config().max_position_embeddings;
        let mut items: Vec<ScoreItem> = Vec::new();
        // For each option of each request the item and the completion that hold it.
        let mut places: Vec<Vec<(usize, usize)>> = Vec::with_capacity(requests.len());
        let mut truncated = vec![false; requests.len()];
        for (request, truncated) in requests.iter().zip(&mut truncated) {
            let (context, plain) = match &request.context {
                Context::Chat(messages) => (self.text.prompt_text(messages)?, false),
                Context::Text(text) => (text.clone(), true),
            };
            let own = items.len();
            let mut of_request = Vec::with_capacity(request.options.len());
            for option in &request.options {
                let (mut prompt, of_context) = self.text.following_ids(&context, option, plain)?;
                let completion = prompt.split_off(of_context);
                if completion.is_empty() || completion.len() > longest {
                    let (id, option, tokens) = (request.id.clone(), option.clone(), completion.len());
                    return Err(ChatError::Option { id, option, tokens, context: longest });
                }
                // The last token of an option is scored and not read.
                let room = longest + 1 - completion.len();
                if prompt.len() > room {
                    prompt.drain(..prompt.len() - room);
                    *truncated = true;
                }
                if prompt.is_empty() {
                    prompt.push(self.text.bos().or(self.text.eos()).unwrap_or(self.text.end_of_turn()));
                }
                // Mostly the options share their context's tokens; where a token spans the border they do not.
                let item = match (own..items.len()).find(|item| items[*item].prompt == prompt) {
                    Some(item) => item,
                    None => {
                        items.push(ScoreItem { prompt, completions: Vec::new() });
                        items.len() - 1
                    }
                };
                of_request.push((item, items[item].completions.len()));
                items[item].completions.push(completion);
            }
            places.push(of_request);
        }
        let scores = engine.score(&items, 1.0, &mut |_| {});
        let sum = |&(item, option): &(usize, usize)| -> f64 {
            scores[item][option].iter().map(|x| f64::from(*x)).sum()
        };
        let found = requests.iter().zip(&places).zip(truncated);
        found
            .map(|((request, places), truncated)| {
                let log_probs: Vec<f64> = places.iter().map(sum).collect();
                match log_probs.iter().all(|log_prob| log_prob.is_finite()) {
                    true => Ok(Options { log_probs, truncated }),
                    false => Err(ChatError::NotFinite { id: request.id.clone() }),
                }
            })
            .collect()
    }

    /// Log-probs of each answer's tokens, end of turn included: `(ids, log-probs)` for each `(id, conversation, answer)`.
    pub fn score(
        &self,
        engine: &mut Engine<'_, Device>,
        items: &[(String, Vec<Message>, Message)],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<(Vec<u32>, Vec<f32>)>, ChatError> {
        self.check_writes()?;
        let mut packed = Vec::with_capacity(items.len());
        for (id, messages, answer) in items {
            let (prompt, completions) = self.turns(id, messages, std::slice::from_ref(answer))?;
            packed.push(ScoreItem { prompt, completions });
        }
        let scores = engine.score(&packed, 1.0, progress);
        Ok(packed
            .into_iter()
            .zip(scores)
            .map(|(mut item, mut scores)| (item.completions.remove(0), scores.remove(0)))
            .collect())
    }
}

impl Answer {
    /// Whether the answer ran into the limit of new tokens.
    pub fn truncated(&self) -> bool {
        self.completion.finish == Finish::Length
    }
}

/// The tokenizer and the shape of a model, without its weights.
pub fn describe(path: &Path) -> Result<(ChatTokenizer, ModelConfig), ChatError> {
    let description = Description::read(path)?;
    Ok((open_text(&description.text)?, description.config))
}
