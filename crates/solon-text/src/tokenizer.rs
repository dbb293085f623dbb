//! The tokenizer with its chat template; every other crate uses it.
//!
//! Contract: ids equal those of transformers' `AutoTokenizer` for the same files, with `add_special_tokens=False`. A
//! `ChatTokenizer` never changes after it is built, and threads can share it.

use std::collections::HashSet;
use std::fmt;

use tokenizers::Tokenizer;

use crate::conversation::common_prefix;
use crate::folder::guarded;
use crate::template::{ChatTemplate, TemplateTokens};
use crate::{StreamDecoder, TemplateDate, TextError};
use solon_records::Message;

/// A tokenizer, its chat template, and how a turn ends.
pub struct ChatTokenizer {
    pub(crate) tokenizer: Tokenizer,
    /// `tokenizer.json` as it was read or made, so that exporting changes nothing.
    pub(crate) definition: String,
    /// `tokenizer_config.json` as it was read; empty for GGUF.
    pub(crate) configuration: serde_json::Map<String, serde_json::Value>,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) template_tokens: TemplateTokens,
    date: TemplateDate,
    pub(crate) special: SpecialTokens,
    vocab_size: usize,
    ending: TurnEnding,
    stop_ids: Vec<u32>,
    /// The ids of `"\n"`, if this tokenizer puts a space before a text's first word, as SentencePiece's do.
    newline_anchor: Option<Vec<u32>>,
    /// The ids of an ordinary text, to stand before a token whose text is wanted.
    before: Vec<u32>,
    /// The texts of the added tokens that include the white space behind them (`rstrip`).
    right_stripping: Vec<String>,
}

/// The special tokens by id, and further ids at which generation stops, from the model's files.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpecialTokens {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
    pub extra_stops: Vec<u32>,
}

/// How an assistant's turn opens and ends, found by rendering a test conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct TurnEnding {
    pub id: u32,
    /// The token's text, if the template itself writes it after the content.
    pub written: Option<String>,
    /// White space between the generation prompt and the content. The model has to produce it itself.
    pub lead: String,
    /// What opens a turn both in the generation prompt and before a given answer.
    pub header: String,
    /// What the template writes behind the content of a conversation's last turn, its end included.
    pub closing: Vec<u32>,
}

/// The parts that both loaders produce.
pub(crate) struct Parts {
    pub definition: String,
    pub configuration: serde_json::Map<String, serde_json::Value>,
    pub template: Option<String>,
    pub special: SpecialTokens,
}

impl ChatTokenizer {
    pub(crate) fn from_parts(tokenizer: Tokenizer, parts: Parts) -> Result<Self, TextError> {
        let Parts { definition, configuration, template, special } = parts;
        let vocab_size = tokenizer.get_vocab(true).values().max().map_or(0, |largest| *largest as usize + 1);
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
        let template_tokens = TemplateTokens {
            bos_token: text(special.bos),
            eos_token: text(special.eos),
            unk_token: text(special.unk),
            pad_token: text(special.pad),
        };
        let added = tokenizer.get_added_tokens_decoder().into_values();
        let right_stripping = added.filter(|token| token.rstrip).map(|token| token.content).collect();
        let date = TemplateDate::default();
        let template = template.map(|source| ChatTemplate::new(&source, date)).transpose()?;
        let mut this = Self {
            tokenizer,
            definition,
            configuration,
            template,
            template_tokens,
            date,
            special,
            vocab_size,
            ending: TurnEnding::default(),
            stop_ids: Vec::new(),
            newline_anchor: None,
            before: Vec::new(),
            right_stripping,
        };
        this.before = this.encode("a")?;
        this.newline_anchor = this.find_newline_anchor()?;
        this.learn_ending()?;
        Ok(this)
    }

    /// The same tokenizer with another chat template, such as [`CHATML_TEMPLATE`](crate::CHATML_TEMPLATE).
    pub fn with_template(mut self, source: &str) -> Result<Self, TextError> {
        self.template = Some(ChatTemplate::new(source, self.date)?);
        self.learn_ending()?;
        Ok(self)
    }

    /// The same tokenizer with another date for templates that use the current date.
    pub fn with_date(mut self, date: TemplateDate) -> Result<Self, TextError> {
        self.date = date;
        match self.template.take() {
            Some(template) => self.with_template(template.source()),
            None => Ok(self),
        }
    }

    /// The ids of `text`, without added special tokens. Special tokens written in `text` become those tokens, as in
    /// transformers.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.encode_with(text, false)
    }

    pub(crate) fn encode_with(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        match guarded(|| self.tokenizer.encode_fast(text, special)) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(reason) => Err(TextError::Encode { bytes: text.len(), reason }),
        }
    }

    /// The ids of `context` followed by `text`, and how many of them are the context's. Both are encoded as one string, and
    /// white space at the end of the context counts as the text's: the rule of lm-evaluation-harness
    /// (`TemplateLM._encode_pair`). At least one id is the text's, if there is any.
    ///
    /// `plain`: the context is no rendered conversation, so it gets the special tokens that the tokenizer puts around a text,
    /// such as a beginning of sequence, where it has none yet.
    pub fn following_ids(
        &self,
        context: &str,
        text: &str,
        plain: bool,
    ) -> Result<(Vec<u32>, usize), TextError> {
        let opened =
            self.template_tokens.bos_token.as_ref().is_some_and(|bos| context.starts_with(bos.as_str()));
        let special = plain && !opened;
        let ids = self.encode_with(&format!("{context}{text}"), special)?;
        let of_context = self.encode_with(context.trim_end(), special)?.len();
        let most = ids.len().saturating_sub(usize::from(!text.is_empty()));
        Ok((ids, of_context.min(most)))
    }

    /// The ids of `text` that follows other tokens, so without the space that a SentencePiece tokenizer puts before a
    /// text. Source of the newline: transformers, `chat_template_utils.py::_encode_chat_piece`.
    pub(crate) fn encode_continuation(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let Some(newline) = &self.newline_anchor else {
            return self.encode(text);
        };
        let ids = self.encode(&format!("\n{text}"))?;
        match ids.strip_prefix(newline.as_slice()) {
            Some(rest) => Ok(rest.to_vec()),
            None => self.encode(text),
        }
    }

    /// The text of `ids`, without special tokens. Bytes that are not UTF-8 become U+FFFD. Spaces are never "cleaned
    /// up", whatever `clean_up_tokenization_spaces` says, so that decoding gives back the encoded text.
    pub fn decode(&self, ids: &[u32]) -> String {
        // The byte-level and byte-fallback decoders cannot fail; an unknown id decodes to nothing, and so does all of a damaged tokenizer.
        guarded(|| self.tokenizer.decode(ids, true)).unwrap_or_default()
    }

    /// The text that a token adds in the middle of a text; `None` of a special token, and of bytes that are no character by
    /// themselves.
    pub fn token_text(&self, id: u32) -> Option<String> {
        // Decoders treat a first token differently, so it gets one before it.
        let before = self.before.as_slice();
        let text = self.decode(&[before, &[id]].concat());
        let own = text.strip_prefix(&self.decode(before)).unwrap_or(&text);
        (!own.is_empty() && !own.contains('\u{FFFD}')).then(|| own.to_owned())
    }

    /// A decoder for ids that arrive one by one.
    pub fn stream_decoder(&self) -> StreamDecoder<'_> {
        StreamDecoder::new(self)
    }

    /// Renders a conversation with the chat template, which also gets what the messages hold beside their texts. The template is an
    /// untrusted program; it runs with a limit on steps, memory and recursion.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TextError> {
        let template = self.template.as_ref().ok_or(TextError::NoTemplate)?;
        let rendered = template.render(messages, &self.template_tokens, add_generation_prompt);
        match messages.iter().position(|message| message.beside.without_content) {
            Some(index) => rendered.map_err(|error| match error {
                TextError::TemplateFailed { reason, .. } => {
                    TextError::NoContent { number: index + 1, reason }
                }
                other => other,
            }),
            None => rendered,
        }
    }

    /// The ids of a conversation and the opening of the assistant's next turn. The rendered text is encoded once and
    /// unchanged. A beginning-of-sequence token is there only if the template writes it.
    ///
    /// # Errors
    /// Those of [`prompt_text`](Self::prompt_text).
    pub fn prompt_ids(&self, messages: &[Message]) -> Result<Vec<u32>, TextError> {
        self.encode(&self.prompt_text(messages)?)
    }

    /// A conversation and the opening of the assistant's next turn, as text.
    ///
    /// # Errors
    /// [`TextError::Lost`] if the template drops tools, calls or their results; those of the template.
    pub fn prompt_text(&self, messages: &[Message]) -> Result<String, TextError> {
        let rendered = self.render(messages, true)?;
        self.check_traces(messages, &rendered, true, &[])?;
        Ok(rendered)
    }

    pub(crate) fn template_names(&self, variable: &str) -> bool {
        self.template.as_ref().is_some_and(|template| template.names(variable))
    }

    /// The ids of a text with which the assistant's turn goes on from [`prompt_ids`](Self::prompt_ids), without an end of
    /// turn: what a model has sampled, or is made to begin with. The ids of an answer that is learnt or scored are those of
    /// [`turn_ids`](Self::turn_ids), which has what the template writes around it.
    pub fn continuation_ids(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let lead = &self.ending.lead;
        match text.starts_with(lead.as_str()) {
            true => self.encode_continuation(text),
            false => self.encode_continuation(&format!("{lead}{text}")),
        }
    }

    /// The token that ends an assistant's turn: the special token that the template writes after its content, or, if it
    /// writes none, the end-of-sequence token.
    pub fn end_of_turn(&self) -> u32 {
        self.ending.id
    }

    /// The tokens at which generation stops: the end of turn first, then the end of sequence, then those of
    /// `generation_config.json`; each once.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.special.eos
    }

    /// The padding token. It is often the end of turn as well, so never compare ids with it to build a mask.
    pub fn pad(&self) -> Option<u32> {
        self.special.pad
    }

    /// The padding of a reward model that is trained from a model that is none, as TRL chooses it.
    pub fn padding_to_score(&self) -> Option<u32> {
        self.pad().or(self.eos())
    }

    /// One more than the largest id. A model's embedding may be padded to more rows.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token, given its text in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// A token's text in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The chat template's source, if there is one.
    pub fn template(&self) -> Option<&str> {
        self.template.as_ref().map(ChatTemplate::source)
    }

    pub(crate) fn ending(&self) -> &TurnEnding {
        &self.ending
    }

    /// Whether `text` ends with a token that includes the white space behind it, so that a text that follows loses its own.
    pub(crate) fn takes_what_follows(&self, text: &str) -> bool {
        let text = text.trim_end();
        self.right_stripping.iter().any(|token| text.ends_with(token.as_str()))
    }

    /// The special token that `text` ends with.
    pub(crate) fn special_at_end(&self, text: &str) -> Option<String> {
        let added = self.tokenizer.get_added_tokens_decoder().into_values();
        let at_end = added.filter(|token| token.special && text.ends_with(token.content.as_str()));
        at_end.map(|token| token.content).max_by_key(String::len)
    }

    fn find_newline_anchor(&self) -> Result<Option<Vec<u32>>, TextError> {
        let newline = self.encode("\n")?;
        let apart = [newline.clone(), self.encode("a")?].concat();
        Ok((self.encode("\na")? != apart).then_some(newline))
    }

    fn learn_ending(&mut self) -> Result<(), TextError> {
        let question = Message::user("PROBE-QUESTION");
        // A template may demand a system message, or write nothing without one. One that takes too long is not asked again.
        let probed = match self.probe_ending(std::slice::from_ref(&question)) {
            probed @ (Ok(Some(_))
            | Err(TextError::TemplateTooExpensive | TextError::TemplateThread { .. })) => probed,
            _ => self.probe_ending(&[Message::system("PROBE-SYSTEM"), question]),
        };
        let probed = probed.ok().flatten();
        let known = probed.is_some();
        let mut ending = probed.unwrap_or_default();
        if ending.written.is_none() {
            let id = self.special.eos.or(self.special.extra_stops.first().copied());
            ending.id = id.ok_or(TextError::NoEndOfTurn)?;
        }
        if !known {
            ending.closing = vec![ending.id];
        }
        self.ending = ending;
        self.stop_ids.clear();
        let candidates =
            [self.ending.id].into_iter().chain(self.special.eos).chain(self.special.extra_stops.clone());
        let mut seen = HashSet::new();
        self.stop_ids.extend(candidates.filter(|id| seen.insert(*id)));
        Ok(())
    }

    /// Renders a short conversation with an answer and reads what surrounds the answer's content; the id is 0 if no added token
    /// follows it. `None` if the template leaves the answer out; an error if it refuses the conversation.
    fn probe_ending(&self, asked: &[Message]) -> Result<Option<TurnEnding>, TextError> {
        const ANSWER: &str = "PROBE-ANSWER";
        let messages = [asked, &[Message::assistant(ANSWER)]].concat();
        let rendered = self.render(&messages, false)?;
        let Some((before, after)) = rendered.split_once(ANSWER) else { return Ok(None) };
        let added = self.tokenizer.get_added_tokens_decoder();
        let written = added
            .iter()
            .filter(|(_, token)| after.trim_start().starts_with(&token.content))
            .max_by_key(|(id, token)| (token.content.len(), **id));
        let prompt = self.render(asked, true).unwrap_or_default();
        let lead =
            before.strip_prefix(prompt.as_str()).filter(|lead| lead.trim().is_empty()).unwrap_or_default();
        let question = self.render(asked, false).unwrap_or_default();
        let header =
            before[..common_prefix(&prompt, before)].strip_prefix(question.as_str()).unwrap_or_default();
        // White space before an end of turn is the answer's, which has it already.
        let closing = if written.is_some() { after.trim_start() } else { after };
        let closing = self.encode_continuation(closing)?;
        Ok(Some(TurnEnding {
            id: written.map(|(id, _)| *id).unwrap_or_default(),
            written: written.map(|(_, token)| token.content.clone()),
            lead: lead.to_owned(),
            header: header.to_owned(),
            closing,
        }))
    }
}

impl fmt::Debug for ChatTokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ChatTokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("special", &self.special)
            .field("ending", &self.ending)
            .field("stop_ids", &self.stop_ids)
            .finish_non_exhaustive()
    }
}
