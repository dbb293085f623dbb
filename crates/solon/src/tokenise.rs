//! From records to what the trainers take: token ids, and which of them are learnt.

use anyhow::{Context, Result, bail};
use solon_infer::chat::ChatModel;
use solon_records::{Demonstration, Preference};
use solon_text::TextError;
use solon_train::TokenPair;
use solon_train::sft::SftExample;

/// Tokenises conversations; the assistant's turns after the prompt are learnt.
pub fn examples(model: &ChatModel, demonstrations: &[Demonstration]) -> Result<Vec<SftExample>> {
    demonstrations
        .iter()
        .map(|demonstration| {
            let Demonstration { id, messages, prompt_len, cut_off } = demonstration;
            let mut encoded = model.text.encode_conversation(messages).with_context(|| id.clone())?;
            if messages[..*prompt_len].iter().any(|message| message.is_assistant()) {
                let context = model.text.prompt_ids(&messages[..*prompt_len]).with_context(|| id.clone())?;
                let context = context.len().min(encoded.loss_mask.len());
                encoded.loss_mask[..context].fill(false);
            }
            if *cut_off {
                encoded.ids.pop();
                encoded.loss_mask.pop();
            }
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

/// Tokenises an answer with its end. One that ran into the limit has none, in training as in the rollouts it is compared with.
pub fn answer(model: &ChatModel, text: &str, cut_off: bool) -> Result<Vec<u32>, TextError> {
    let mut ids = model.text.completion_ids(text)?;
    if cut_off && ids.len() > 1 {
        ids.pop();
    }
    Ok(ids)
}

/// Tokenises preferences, which must be oriented.
pub fn pairs(model: &ChatModel, preferences: &[Preference]) -> Result<Vec<TokenPair>> {
    preferences
        .iter()
        .map(|preference| {
            let chosen = answer(model, &preference.chosen, preference.cut_off[0])?;
            let rejected = answer(model, &preference.rejected, preference.cut_off[1])?;
            let longest = chosen.len().max(rejected.len());
            let prompt = model.prompt_ids(&preference.id, &preference.prompt, longest)?;
            Ok(TokenPair {
                id: preference.id.clone(),
                prompt,
                chosen,
                rejected,
                probability: preference.probability as f32,
                margin: preference.margin.map(|margin| margin as f32),
            })
        })
        .collect()
}
