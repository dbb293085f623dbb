//! From records to what the trainers take: token ids, and which of them are learnt.

use anyhow::{Context, Result, bail};
use solon_infer::chat::{ChatError, ChatModel};
use solon_records::{Demonstration, Message, Preference};
use solon_text::{ChatTokenizer, Closing, Encoded, TextError};
use solon_train::TokenPair;
use solon_train::sft::SftExample;

/// Tokenises conversations; the assistant's turns after the prompt are learnt, but for those that are marked.
pub fn examples(model: &ChatModel, demonstrations: &[Demonstration]) -> Result<Vec<SftExample>> {
    demonstrations
        .iter()
        .map(|demonstration| {
            let id = &demonstration.id;
            let encoded = conversation(&model.text, demonstration).with_context(|| id.clone())?;
            let (tokens, context) = (encoded.ids.len(), model.config().max_position_embeddings);
            if tokens > context {
                bail!(
                    "{id} has {tokens} tokens, the model's context is {context}\nhint: shorten it or leave it out"
                );
            }
            Ok(SftExample { id: id.clone(), tokens: encoded.ids, mask: encoded.loss_mask })
        })
        .collect()
}

/// Tokenises a conversation. A last answer that was cut off has no end.
pub fn conversation(text: &ChatTokenizer, demonstration: &Demonstration) -> Result<Encoded, TextError> {
    let Demonstration { messages, cut_off, .. } = demonstration;
    let mut encoded = text.encode_conversation(messages, |index| demonstration.learns(index))?;
    // The ids end with the last turn that is learnt, which is another one where the last answer is not.
    let last = messages.iter().rposition(Message::is_assistant);
    if *cut_off && last.is_some_and(|last| demonstration.learns(last)) {
        encoded.ids.pop();
        encoded.loss_mask.pop();
    }
    Ok(encoded)
}

/// An answer's ids without its end, if it was cut off.
pub fn cut(ids: &mut Vec<u32>, cut_off: bool) {
    if cut_off && ids.len() > 1 {
        ids.pop();
    }
}

/// Tokenises a conversation and answers to it. An answer that ran into the limit has no end, in training as in the rollouts it
/// is compared with. `closing`: for a reward model, which also reads how the template closes the conversation.
///
/// Errors where the prompt and an answer do not fit the model's context.
pub fn answers(
    model: &ChatModel,
    id: &str,
    prompt: &[Message],
    answers: &[(Message, bool)],
    closing: Option<&Closing>,
) -> Result<(Vec<u32>, Vec<Vec<u32>>), ChatError> {
    let messages: Vec<Message> = answers.iter().map(|(answer, _)| answer.clone()).collect();
    let (prompt, mut made) = model.turns(id, prompt, &messages)?;
    for (ids, (_, cut_off)) in made.iter_mut().zip(answers) {
        cut(ids, *cut_off);
        if let Some(closing) = closing {
            *ids = closing.close(ids);
            model.check_fits(id, prompt.len() + ids.len())?;
        }
    }
    Ok((prompt, made))
}

/// Tokenises preferences, which must be oriented. `closing`: as of [`answers`].
pub fn pairs(
    model: &ChatModel,
    preferences: &[Preference],
    closing: Option<&Closing>,
) -> Result<Vec<TokenPair>> {
    preferences
        .iter()
        .map(|preference| {
            let Preference { id, prompt, cut_off, .. } = preference;
            let [chosen, rejected] = preference.answers();
            let given = [(chosen, cut_off[0]), (rejected, cut_off[1])];
            let (prompt, made) = answers(model, id, prompt, &given, closing)?;
            let Ok([chosen, rejected]) = <[Vec<u32>; 2]>::try_from(made) else {
                unreachable!("two answers were given")
            };
            Ok(TokenPair {
                id: id.clone(),
                prompt,
                chosen,
                rejected,
                probability: preference.probability as f32,
                margin: preference.margin.map(|margin| margin as f32),
            })
        })
        .collect()
}
