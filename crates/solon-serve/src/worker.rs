//! The thread with the engine: takes requests from a channel, runs them as one batch, and sends back what they say.

use crate::said::{Piece, Said};
use solon_draws::Draws;
use solon_infer::batch::{Batch, BatchSettings, Finished, Sequence, Tokens};
use solon_infer::chat::ChatModel;
use solon_infer::generate::Finish;
use solon_records::SamplingSettings;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use tokio::sync::mpsc::UnboundedSender;

/// One sequence to continue. If nobody listens to `events` any more, it is cancelled.
pub(crate) struct Job {
    pub prompt: Vec<u32>,
    pub draws: Draws,
    pub sampling: Arc<SamplingSettings>,
    pub read_prompt: bool,
    pub likeliest: usize,
    /// Whether the end of turn is among the tokens that are sent.
    pub end_of_turn: bool,
    /// Whether pieces are sent as they come; else there is one, at the end.
    pub stream: bool,
    /// Its number among the sequences of a request, which is sent with each event.
    pub index: usize,
    pub events: UnboundedSender<(usize, Event)>,
}

/// What happens to a sequence.
pub(crate) enum Event {
    /// New text, and the tokens that it is made of.
    Piece(String, Tokens),
    /// The end. Before it comes a last piece.
    End(End),
}

pub(crate) struct End {
    pub finish: Finish,
    /// The prompt's tokens from the second on, where they were wanted.
    pub prompt: Tokens,
    /// Number of generated tokens, the end of turn included.
    pub generated: usize,
}

/// Runs jobs until the channel is closed and all are done, or until `stop`.
pub(crate) fn work(model: &ChatModel, slots: usize, jobs: &Receiver<Job>, stop: &AtomicBool) {
    let mut engine = model.engine(model.adapter.as_ref());
    let settings = BatchSettings { slots, stop_ids: model.text.stop_ids(), logprob_temperature: 1.0 };
    let mut batch = Batch::new(&mut engine, settings);
    let mut members: BTreeMap<u64, (Job, Said<'_>)> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        if batch.is_empty() {
            match jobs.recv() {
                Ok(job) => add(&mut batch, &mut members, model, job),
                Err(_) => return,
            }
        }
        while let Ok(job) = jobs.try_recv() {
            add(&mut batch, &mut members, model, job);
        }
        members.retain(|id, (job, _)| {
            let listened = !job.events.is_closed();
            if !listened {
                batch.cancel(*id);
            }
            listened
        });
        let finished = batch.step(&mut |id, tokens| {
            let Some((job, said)) = members.get_mut(&id) else { return true };
            let token = tokens.ids[tokens.ids.len() - 1];
            // An end of turn is not said.
            let stopped = said.push(token);
            if job.stream && !stopped && !model.text.stop_ids().contains(&token) {
                let piece = said.piece();
                send_piece(job, piece, tokens);
            }
            stopped
        });
        for Finished { id, prompt, tokens, finish } in finished {
            let Some((job, mut said)) = members.remove(&id) else { continue };
            let last = tokens.ids.last();
            let ended = last.is_some_and(|last| model.text.stop_ids().contains(last));
            send_piece(&job, said.finish(ended && !job.end_of_turn), &tokens);
            let end = End { finish, prompt, generated: tokens.ids.len() };
            let _ = job.events.send((job.index, Event::End(end)));
        }
    }
}

fn add<'a>(
    batch: &mut Batch<'_, '_, solon_model::Device>,
    members: &mut BTreeMap<u64, (Job, Said<'a>)>,
    model: &'a ChatModel,
    mut job: Job,
) {
    let sequence = Sequence {
        prompt: std::mem::take(&mut job.prompt),
        draws: job.draws,
        sampling: job.sampling.clone(),
        read_prompt: job.read_prompt,
        likeliest: job.likeliest,
    };
    let said = Said::new(&model.text, job.sampling.stop.clone());
    members.insert(batch.add(sequence), (job, said));
}

fn send_piece(job: &Job, piece: Piece, tokens: &Tokens) {
    let Piece { text, tokens: places } = piece;
    if text.is_empty() && places.is_empty() {
        return;
    }
    // If nobody listens, the sequence is cancelled before the next step.
    let _ = job.events.send((job.index, Event::Piece(text, part(tokens, places))));
}

/// The tokens at some places.
fn part(tokens: &Tokens, places: Range<usize>) -> Tokens {
    Tokens {
        ids: tokens.ids[places.clone()].to_vec(),
        logprobs: tokens.logprobs[places.clone()].to_vec(),
        likeliest: tokens.likeliest.get(places).unwrap_or_default().to_vec(),
    }
}
