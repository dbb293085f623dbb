//! Streamed answers: server-sent events, one JSON chunk each, `[DONE]` at the end.

use crate::http::Admitted;
use crate::request::Answers;
use crate::worker::Event;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc::channel;
use tokio_stream::wrappers::ReceiverStream;

/// How an endpoint writes its chunks.
pub(crate) trait Chunks: Send + 'static {
    /// Those before the first event.
    fn first(&self) -> Vec<Value>;
    /// The chunk of an event of a choice.
    fn of(&self, index: usize, event: Event) -> Value;
    /// Tokens of the prompts.
    fn prompt_tokens(&self) -> usize;
    /// The chunk with the token counts.
    fn usage(&self, generated: usize) -> Value;
}

/// Chunks that wait for a client that reads slowly.
const WAITING: usize = 64;

/// How long a client may take until it reads on.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends chunks as the answers come. When the client goes away, the answers are dropped, and with them the work.
pub(crate) fn stream<C: Chunks + Sync>(
    chunks: C,
    mut answers: Answers,
    with_usage: bool,
    admitted: Admitted,
) -> Response {
    let (sender, receiver) = channel::<Result<sse::Event, Infallible>>(WAITING);
    tokio::spawn(async move {
        // A client that does not read would keep its place in the queue.
        let send = async |text: String| {
            let sent = sender.send_timeout(Ok(sse::Event::default().data(text)), READ_TIMEOUT);
            sent.await.is_ok()
        };
        for chunk in chunks.first() {
            if !send(chunk.to_string()).await {
                return;
            }
        }
        let mut generated = 0;
        loop {
            let next = tokio::select! {
                next = answers.next() => next,
                () = sender.closed() => return,
            };
            let chunk = match next {
                Ok(Some((index, event))) => {
                    if let Event::End(end) = &event {
                        generated += end.generated;
                    }
                    chunks.of(index, event)
                }
                Ok(None) => break,
                // The status is sent already, so the error is an event.
                Err(error) => {
                    send(error.body().to_string()).await;
                    return;
                }
            };
            if !send(chunk.to_string()).await {
                return;
            }
        }
        if with_usage {
            send(chunks.usage(generated).to_string()).await;
        }
        send("[DONE]".to_owned()).await;
        admitted.answered(chunks.prompt_tokens(), generated);
    });
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default()).into_response()
}
