//! Models, adapters and data sets of the Hugging Face Hub, by name.
//!
//! Contract: [`Hub::model`], [`Hub::adapter`] and [`Hub::data`] turn `org/name[@revision][:choice]` into paths in the cache of
//! the official client, and [`Hub::push`] makes files a repository. Only the needed files are downloaded, and no pickle. A file is there only with the size and hash that
//! the Hub names; a download that was cut goes on where it was. What the Hub sends is untrusted: names, hashes and sizes are
//! checked before they become paths. The token goes to the Hub's own address and is shown nowhere. This crate prints nothing
//! and knows no format of a model.
//!
//! ```no_run
//! use solon_hub::{Event, Hub, HubSettings, RepositoryName};
//!
//! let hub = Hub::new(HubSettings::from_environment()?);
//! let name = RepositoryName::read("Qwen/Qwen2.5-0.5B-Instruct").expect("a name");
//! let folder = hub.model(&name, &mut |event| {
//!     if let Event::At(bytes) = event {
//!         println!("{bytes} bytes");
//!     }
//! })?;
//! println!("{}", folder.display());
//! # Ok::<(), solon_hub::HubError>(())
//! ```

mod cache;
mod download;
mod error;
mod hash;
mod http;
mod hub;
mod lfs;
mod listing;
mod name;
mod needed;
mod origin;
mod push;
mod settings;
mod splits;

pub use cache::name_in_cache;
pub use error::HubError;
pub use hub::{Event, Hub};
pub use name::{RepositoryKind, RepositoryName};
pub use push::{Upload, Visibility};
pub use settings::{HubSettings, Network, Token};
pub use splits::files_of_split;

#[cfg(test)]
mod tests;
