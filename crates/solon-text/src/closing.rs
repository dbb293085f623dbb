//! How a conversation closes for a reward model, which scores it as a whole.
//!
//! Contract: a prompt's ids and an answer's ids that are closed here are the ids of the rendered conversation up to the last that is no
//! padding. There transformers' `*ForSequenceClassification` reads its score, and there TRL trains it. Three things differ, as they do for
//! all that is learnt: an answer that was cut off stays open; the border to the prompt is that of sampling (`conversation.rs`); and where the
//! template writes no end of turn, white space at the answer's end is left out, and what the template writes is encoded by itself.
//!
//! Source: transformers 5, `modeling_layers.py` (`GenericForSequenceClassification`); TRL 1.16, `reward_trainer.py`.

use crate::ChatTokenizer;

/// How an answer ends when a reward model reads it, and what does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Ends an answer that is learnt.
    end_of_turn: u32,
    /// End an answer that is sampled.
    stop_ids: Vec<u32>,
    /// What the template writes in place of either at a conversation's end: often an end of turn with a line end; none, if the template
    /// writes none.
    written: Vec<u32>,
    /// Is not read at the end.
    padding: Option<u32>,
}

impl Closing {
    /// An answer to learn or to score, as it is read: closed as the template closes it, if it has ended, and without padding at the end.
    /// The score is that at the last id; at the end of the prompt, if nothing is left of the answer.
    pub fn close(&self, answer: &[u32]) -> Vec<u32> {
        self.closed(answer, &[self.end_of_turn])
    }

    /// The same of an answer that was sampled. It may have stopped at another id than the one that the template writes.
    pub fn close_sampled(&self, answer: &[u32]) -> Vec<u32> {
        self.closed(answer, &self.stop_ids)
    }

    fn closed(&self, answer: &[u32], ends: &[u32]) -> Vec<u32> {
        let mut closed = match answer.split_last() {
            Some((last, content)) if ends.contains(last) => [content, &self.written].concat(),
            _ => answer.to_vec(),
        };
        let last = closed.iter().rposition(|id| Some(*id) != self.padding);
        closed.truncate(last.map_or(0, |last| last + 1));
        closed
    }

    /// How many more ids an answer can have once it is closed.
    pub fn room(&self) -> usize {
        self.written.len().saturating_sub(1)
    }
}

impl ChatTokenizer {
    /// How conversations close for a reward model with this `pad_token_id`.
    pub fn closing(&self, padding: Option<u32>) -> Closing {
        let written = self.ending().closing.clone();
        Closing { end_of_turn: self.end_of_turn(), stop_ids: self.stop_ids().to_vec(), written, padding }
    }
}

#[cfg(test)]
mod tests {
    use crate::CHATML_TEMPLATE;
    use crate::gguf::tests::byte_tokenizer;

    const END: u32 = 256;

    #[test]
    fn an_answer_that_has_ended_is_closed_as_the_template_closes_it() {
        let chatml = byte_tokenizer().with_template(CHATML_TEMPLATE).expect("ChatML");
        let closing = chatml.closing(Some(END));
        let newline = u32::from(b'\n');
        assert_eq!(closing.close(&[7, END]), [7, END, newline]);
        assert_eq!(closing.room(), 1);
        assert_eq!(closing.close(&[7, 8]), [7, 8], "a cut answer stays open");
        assert_eq!(closing.close_sampled(&[7, 8]), [7, 8]);
        let template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}";
        let bare = byte_tokenizer().with_template(template).expect("a template");
        assert_eq!(bare.closing(None).close(&[7, END]), [7, END]);
        assert_eq!(bare.closing(Some(END)).close(&[7, END]), [7], "padding is not read");
        assert_eq!(bare.closing(Some(END)).close(&[END]), [0; 0]);
        // The end that training and sampling have where the template writes none.
        let none = byte_tokenizer()
            .with_template("{% for m in messages %}{{ m.content }}!{% endfor %}")
            .expect("a template");
        assert_eq!(none.closing(None).close(&[7, none.end_of_turn()]), [7, u32::from(b'!')]);
    }

    #[test]
    fn a_sampled_answer_may_stop_at_another_token() {
        // As Qwen2.5, whose answers may stop at its padding.
        let mut tokenizer = byte_tokenizer();
        let padding = 258;
        tokenizer.special.extra_stops = vec![padding];
        let chatml = tokenizer.with_template(CHATML_TEMPLATE).expect("ChatML");
        let closing = chatml.closing(Some(padding));
        let closed = [7, END, u32::from(b'\n')];
        assert_eq!(closing.close_sampled(&[7, padding]), closed);
        assert_eq!(closing.close_sampled(&[7, END]), closed);
        assert_eq!(closing.close(&[7, padding]), [7], "the template wrote it");
    }

    #[test]
    fn a_template_may_demand_a_system_message() {
        let demands = "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}";
        let template = format!("{demands}{CHATML_TEMPLATE}");
        let demanding = byte_tokenizer().with_template(&template).expect("a template");
        let chatml = byte_tokenizer().with_template(CHATML_TEMPLATE).expect("ChatML");
        assert_eq!(demanding.closing(None), chatml.closing(None));
        // Or write nothing of a conversation without one.
        let template = format!("{{% if messages[0].role == 'system' %}}{CHATML_TEMPLATE}{{% endif %}}");
        let silent = byte_tokenizer().with_template(&template).expect("a template");
        assert_eq!(silent.closing(None), chatml.closing(None));
        assert_eq!(silent.end_of_turn(), END);
    }
}
