//! A model as an HTTP server that clients of OpenAI's API can drive: chat completions, completions with log-probs and
//! `echo`, models, streaming.
//!
//! One thread runs the engine; requests join its batch as they come and leave it when they end or their client goes away
//! ([`solon_infer::batch`]). So an answer does not depend on what else is asked, and a greedy answer is always the same.
//! What a client sends is untrusted: its size, its tokens and the queue are bounded, and a field that is not honoured is
//! refused by name.

mod chat;
mod completions;
mod error;
mod fields;
mod http;
mod request;
mod said;
mod stream;
mod worker;

use solon_infer::chat::ChatModel;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore};

/// How a model is served.
#[derive(Clone)]
pub struct ServeSettings {
    /// The model's name for clients.
    pub name: String,
    /// The address; a loopback address is reached from this machine alone.
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The key that clients must send; without one, any is accepted.
    pub key: Option<String>,
    /// What a request may ask for.
    pub limits: Limits,
    /// Sequences that are generated at the same time.
    pub slots: usize,
    /// Threads of the engine; `None` takes all cores.
    pub threads: Option<usize>,
    /// How long running requests may go on after the server was told to stop.
    pub grace: Duration,
    /// Whether requests are logged on stderr.
    pub log: bool,
}

/// What a request may ask for.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Requests that wait beside those that run.
    pub queue: usize,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// New tokens of a sequence.
    pub max_new_tokens: usize,
    /// Sequences of a request: its prompts, each so often as answers to it are asked for.
    pub max_sequences: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue: 64, max_body_bytes: 8 << 20, max_new_tokens: 4096, max_sequences: 256 }
    }
}

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not to be had.
    #[error("cannot listen on {address}: {source}\nhint: is the port in use? --port 0 takes a free one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The network or the operating system.
    #[error("the server failed: {0}")]
    Io(#[from] std::io::Error),
    /// The engine has panicked.
    #[error("the engine failed; what it said is above")]
    Engine,
}

/// What every request needs.
pub(crate) struct Served {
    model: Arc<ChatModel>,
    name: String,
    key: Option<String>,
    loopback: bool,
    limits: Limits,
    log: bool,
    /// Places for requests, waiting and running ones.
    queue: Arc<Semaphore>,
    jobs: Sender<worker::Job>,
    /// Cleared when the engine has ended.
    running: Arc<AtomicBool>,
    /// Requests without a seed so far.
    asked: AtomicU64,
    /// Responses so far.
    responses: AtomicU64,
    /// Seconds since 1970.
    started: u64,
}

impl Served {
    pub(crate) fn now(&self) -> u64 {
        seconds_now()
    }

    pub(crate) fn next_id(&self, kind: &str) -> String {
        format!("{kind}-{:x}-{}", self.started, self.responses.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    pub(crate) fn log(&self, line: &str) {
        if self.log {
            eprintln!("{line}");
        }
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Serves until the process is told to stop (Ctrl-C or SIGTERM). `ready` gets the address once it can be reached.
///
/// After the first signal no request is taken any more, and running ones have [`ServeSettings::grace`] to end.
pub fn serve(
    model: ChatModel,
    settings: ServeSettings,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let model = Arc::new(model);
    let (jobs, waiting) = std::sync::mpsc::channel();
    let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let ended = Arc::new(Notify::new());
    let engine = {
        let (model, stop, slots) = (model.clone(), stop.clone(), settings.slots);
        let (threads, ends) = (settings.threads, Ends(running.clone(), ended.clone()));
        std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let _ends = ends;
            let work = || worker::work(&model, slots, &waiting, &stop);
            match threads {
                Some(threads) => solon_kernels::threads::with_threads(threads, work),
                None => work(),
            }
        })?
    };
    let address = SocketAddr::new(settings.host, settings.port);
    let served = Arc::new(Served {
        model,
        name: settings.name,
        key: settings.key,
        loopback: settings.host.is_loopback(),
        limits: settings.limits,
        log: settings.log,
        queue: Arc::new(Semaphore::new(settings.slots + settings.limits.queue)),
        jobs,
        running,
        asked: AtomicU64::new(0),
        responses: AtomicU64::new(0),
        started: seconds_now(),
    });
    let grace = settings.grace;
    let outcome = runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ServeError::Listen { address, source })?;
        ready(listener.local_addr()?);
        let told = Arc::new(Notify::new());
        let (closing, ending) = (told.clone(), told);
        let server = axum::serve(listener, http::router(served))
            .with_graceful_shutdown(async move { closing.notified().await });
        let server = std::future::IntoFuture::into_future(server);
        tokio::pin!(server);
        tokio::select! {
            ended = &mut server => return Ok(ended?),
            stopped = told_to_stop() => stopped?,
            // It ends by itself only if it fails; whoever started the server can start it again.
            () = ended.notified() => return Ok(()),
        }
        ending.notify_one();
        tokio::select! {
            ended = server => Ok(ended?),
            () = tokio::time::sleep(grace) => Ok(()),
            again = told_to_stop() => Ok(again?),
        }
    });
    // Dropping the runtime drops what is left of the requests.
    drop(runtime);
    stop.store(true, Ordering::Relaxed);
    let engine = engine.join();
    outcome.and(engine.map_err(|_| ServeError::Engine))
}

/// Says that the engine has ended, however that came.
struct Ends(Arc<AtomicBool>, Arc<Notify>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
        self.1.notify_one();
    }
}

/// Returns when the process is told to stop.
async fn told_to_stop() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            told = tokio::signal::ctrl_c() => told,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
