//! Paths, and what is checked before a request is read: its host, its key, its size, and whether the queue has room.

use crate::error::{ApiError, json_response};
use crate::{Served, chat, completions};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// The longest time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// All paths.
pub(crate) fn router(served: Arc<Served>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/completions", post(text_completions))
        .fallback(async |uri: Uri| ApiError::unknown_path(uri.path()))
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .with_state(served)
}

/// A request that has its place in the queue, until this is dropped.
pub(crate) struct Admitted {
    served: Arc<Served>,
    path: &'static str,
    since: Instant,
    _place: OwnedSemaphorePermit,
}

impl Admitted {
    /// Logs that it was answered.
    pub fn answered(&self, prompt_tokens: usize, generated: usize) {
        let seconds = self.since.elapsed().as_secs_f64();
        let path = self.path;
        self.served
            .log(&format!("{path}: {prompt_tokens} prompt tokens, {generated} new ones, {seconds:.2} s"));
    }
}

async fn health(State(served): State<Arc<Served>>) -> Response {
    match served.is_running() {
        true => json_response(StatusCode::OK, &json!({"status": "ok"})),
        false => ApiError::ended().into_response(),
    }
}

async fn models(State(served): State<Arc<Served>>, headers: HeaderMap) -> Result<Response, ApiError> {
    check_sender(&served, &headers)?;
    Ok(json_response(StatusCode::OK, &json!({"object": "list", "data": [described(&served)]})))
}

async fn model(
    State(served): State<Arc<Served>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    check_sender(&served, &headers)?;
    match name == served.name {
        true => Ok(json_response(StatusCode::OK, &described(&served))),
        false => Err(ApiError::unknown_model(&name, &served.name)),
    }
}

fn described(served: &Served) -> Value {
    json!({
        "id": served.name,
        "object": "model",
        "created": served.started,
        "owned_by": "solon",
        // As vLLM names it.
        "max_model_len": served.model.config().max_position_embeddings,
    })
}

async fn chat_completions(State(served): State<Arc<Served>>, request: Request<Body>) -> Response {
    let answered = async {
        let (admitted, body) = admit(&served, "/v1/chat/completions", request).await?;
        chat::answer(served.clone(), admitted, &body).await
    };
    logged(&served, "/v1/chat/completions", answered.await)
}

async fn text_completions(State(served): State<Arc<Served>>, request: Request<Body>) -> Response {
    let answered = async {
        let (admitted, body) = admit(&served, "/v1/completions", request).await?;
        completions::answer(served.clone(), admitted, &body).await
    };
    logged(&served, "/v1/completions", answered.await)
}

/// Logs a refusal.
fn logged(served: &Served, path: &str, answered: Result<Response, ApiError>) -> Response {
    answered.unwrap_or_else(|error| {
        // It may hold what the client sent: escaped and cut short, it cannot control the terminal.
        let message: String = error.message().chars().take(200).collect();
        served.log(&format!("{path}: refused: {message:?}"));
        error.into_response()
    })
}

/// Gives a request its place in the queue, and reads its body.
async fn admit(
    served: &Arc<Served>,
    path: &'static str,
    request: Request<Body>,
) -> Result<(Admitted, Bytes), ApiError> {
    check_sender(served, request.headers())?;
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if request.method() != Method::POST || !kind.to_ascii_lowercase().starts_with("application/json") {
        return Err(ApiError::not_json());
    }
    let place = served.queue.clone().try_acquire_owned().map_err(|_| ApiError::busy(served.limits.queue))?;
    let most = served.limits.max_body_bytes;
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), most));
    let body = body.await.map_err(|_| ApiError::too_slow())?.map_err(|_| ApiError::too_large(most))?;
    let admitted = Admitted { served: served.clone(), path, since: Instant::now(), _place: place };
    Ok((admitted, body))
}

/// Refuses a wrong key. On this machine alone, where no key is needed, it refuses pages of other sites that a browser was
/// made to take for this machine (DNS rebinding).
fn check_sender(served: &Served, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match &served.key {
        Some(key) => {
            let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
            match given.is_some_and(|given| is_same(given.trim(), key)) {
                true => Ok(()),
                false => Err(ApiError::wrong_key()),
            }
        }
        None if served.loopback => match text(header::HOST).is_none_or(is_this_machine) {
            true => Ok(()),
            false => Err(ApiError::foreign_host()),
        },
        None => Ok(()),
    }
}

/// Compares in a time that depends on the lengths alone.
fn is_same(given: &str, key: &str) -> bool {
    let differing = given.bytes().zip(key.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    given.len() == key.len() && differing == 0
}

/// Whether a Host header, `name[:port]`, names this machine.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_this_machine() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["example.com", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "", "[::2]"]
        {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn keys_are_the_same_in_whole() {
        assert!(is_same("abc", "abc"));
        assert!(!is_same("ab", "abc") && !is_same("abd", "abc") && !is_same("", "abc"));
    }
}
