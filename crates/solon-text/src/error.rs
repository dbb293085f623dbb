//! Errors of text handling. Each says what was wrong, where, and what to do.

use std::path::PathBuf;

use solon_records::IS_GIT_LFS_POINTER;

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file of the tokenizer folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Git LFS has not fetched the file.
    #[error("{} {IS_GIT_LFS_POINTER}", path.display())]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// The folder has no `tokenizer.json`.
    #[error(
        "{} has no tokenizer.json\nhint: make one with transformers: \
         AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        folder.display()
    )]
    NoTokenizerFile {
        /// The folder.
        folder: PathBuf,
    },
    /// A JSON file is not JSON, or a field has the wrong type.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the field or line.
        reason: String,
    },
    /// The tokenizer definition is not one the `tokenizers` library accepts.
    #[error("the tokenizer in {origin} cannot be built: {reason}")]
    Tokenizer {
        /// The file it came from.
        origin: String,
        /// What the library said.
        reason: String,
    },
    /// The tokenizer failed on a text.
    #[error("the tokenizer failed on a text of {bytes} bytes: {reason}")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the library said.
        reason: String,
    },
    /// A configured special token is not in the vocabulary.
    #[error(
        "{field} is `{token}`, which is not in the vocabulary\nhint: correct {field} in tokenizer_config.json"
    )]
    UnknownSpecialToken {
        /// The configuration field, such as `eos_token`.
        field: &'static str,
        /// Its value.
        token: String,
    },
    /// Neither the template nor the configuration says how a turn ends.
    #[error(
        "it is unknown how an assistant's turn ends: the chat template writes no special token after it, and no end-of-sequence token is set\n\
         hint: set eos_token in tokenizer_config.json"
    )]
    NoEndOfTurn,
    /// The fields of the GGUF vocabulary contradict each other.
    #[error("GGUF metadata `{field}`: {reason}")]
    GgufField {
        /// The metadata key.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The GGUF file has a kind of tokenizer that is not supported.
    #[error(
        "GGUF metadata `{field}` is `{found}`; supported are {supported}\n\
         hint: use the model's Hugging Face folder (with tokenizer.json)"
    )]
    GgufUnsupported {
        /// The metadata key.
        field: &'static str,
        /// Its value.
        found: String,
        /// The values that are supported.
        supported: String,
    },
    /// GGUF has no form for a part of the tokenizer.
    #[error(
        "this tokenizer cannot be written into a GGUF file: its {part} is {found}\n\
         hint: GGUF files have byte-level BPE with a pre-tokenizer that llama.cpp knows by name, and SentencePiece's BPE; \
         use the model's Hugging Face folder instead"
    )]
    GgufUnwritable {
        /// The part of the tokenizer.
        part: &'static str,
        /// What it is.
        found: String,
    },
    /// There is no chat template.
    #[error(
        "this tokenizer has no chat template\nhint: put chat_template.jinja into the model's folder, or give it with --chat-template; into a GGUF file, \
         `gguf-new-metadata --chat-template` of the Python package `gguf` writes one"
    )]
    NoTemplate,
    /// The chat template is not valid Jinja.
    #[error("the chat template is not valid Jinja, line {line}: {reason}")]
    TemplateSyntax {
        /// Line in the template, from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// The chat template refused the conversation by calling `raise_exception`.
    #[error(
        "the chat template refused the conversation: {message}\n\
         hint: many templates refuse a system message or two turns of the same role; change the messages, or the model's \
         chat template"
    )]
    TemplateRaised {
        /// The template's own words.
        message: String,
    },
    /// The chat template failed while running.
    #[error(
        "the chat template failed, line {line}: {reason}\n\
         hint: correct it in the model's folder: chat_template.jinja, or chat_template in tokenizer_config.json"
    )]
    TemplateFailed {
        /// Line in the template, from 1; 0 where unknown.
        line: usize,
        /// What went wrong.
        reason: String,
    },
    /// The chat template used more steps and memory than allowed.
    #[error(
        "the chat template used more steps and memory than allowed; \
         it loops too long, or the conversation is far too long"
    )]
    TemplateTooExpensive,
    /// The chat template is longer than any that does what chat templates do.
    #[error(
        "the chat template is too long: {found}; the longest that is read has 256 KiB, in lines of up to 60,000 bytes\n\
         hint: is chat_template.jinja, or chat_template in tokenizer_config.json, the right file?"
    )]
    TemplateTooLong {
        /// How long it is.
        found: String,
    },
    /// The system gives no thread to run the chat template on.
    #[error(
        "the chat template cannot be run: the system gives no thread with 256 MiB of address space: {source}"
    )]
    TemplateThread {
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A date given for `strftime_now` does not exist.
    #[error("{year}-{month}-{day} is not a date")]
    InvalidDate {
        /// Year.
        year: i32,
        /// Month.
        month: u32,
        /// Day.
        day: u32,
    },
    /// The start of a conversation renders differently from the start of the whole rendering.
    #[error(
        "the chat template renders the turns before message {index} differently if message {index} follows, \
         so training would use other tokens than sampling\nhint: train on single turns, or change the template"
    )]
    NotPrefixPreserving {
        /// Index of the assistant message, from 0.
        index: usize,
    },
    /// The template changes an assistant message's content.
    #[error(
        "the chat template rewrites the content of message {index} (or writes no end of turn after it), \
         so its tokens cannot be found\nhint: clean the content, or change the template"
    )]
    ContentRewritten {
        /// Index of the assistant message, from 0.
        index: usize,
    },
    /// The template failed on a message that only calls tools.
    #[error(
        "the chat template cannot write message {number}, which calls tools and has no content: {reason}\n\
         hint: give the message an empty content, or use a model whose chat template knows tools"
    )]
    NoContent {
        /// Which message, from 1.
        number: usize,
        /// What the template stumbled over.
        reason: String,
    },
    /// The template writes nothing of a part of the conversation.
    #[error(
        "the chat template leaves no trace of {what}, so it would be lost\n\
         hint: use a model whose chat template knows it, give such a template with --chat-template FILE, or take it out of the row"
    )]
    Lost {
        /// What is lost.
        what: String,
    },
    /// A conversation without an assistant message: nothing in it can be trained on.
    #[error("this conversation of {messages} messages has no assistant message to train on")]
    EmptyLossMask {
        /// How many messages there were.
        messages: usize,
    },
    /// A file to export could not be written as JSON.
    #[error("cannot write {file}: {reason}")]
    Export {
        /// The file's name.
        file: &'static str,
        /// What went wrong.
        reason: String,
    },
}
