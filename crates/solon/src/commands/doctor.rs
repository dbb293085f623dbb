//! `solon doctor`: shows what this machine supports, and what is installed.

use crate::catalogue;
use crate::out::outln;
use anyhow::Result;
use serde_json::json;
use solon_hub::{HubSettings, Network};
use solon_kernels::Precision;
use solon_kernels::isa::{Isa, isa};

/// Prints the machine's properties.
pub fn run(as_json: bool) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let cache = catalogue::cache_folder()?;
    let models: Vec<(&str, bool)> =
        catalogue::CATALOGUE.iter().map(|entry| (entry.name, catalogue::is_cached(entry))).collect();
    let pip = std::process::Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    let usable: Vec<&str> = Isa::usable().into_iter().map(Isa::name).collect();
    let hub = HubSettings::from_environment()?;
    let (logged_in, offline) = (hub.token.is_some(), hub.network == Network::Forbidden);
    if as_json {
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"), "isa": isa().name(), "usable_isas": usable,
            "precision": Precision::auto().name(),
            "threads": threads, "cache": cache, "pip": pip,
            "hub": {"endpoint": hub.endpoint, "cache": hub.cache, "token": logged_in, "offline": offline},
            "models": models.iter().map(|(name, there)| json!({"name": name, "cached": there})).collect::<Vec<_>>(),
        });
        outln!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    outln!("solon      {}", env!("CARGO_PKG_VERSION"));
    outln!("processor  {} ({threads} threads); supports {}", isa().name(), usable.join(", "));
    outln!("precision  {} by default", Precision::auto().name());
    outln!("cache      {}", cache.display());
    outln!("pip        {}", if pip { "found" } else { "not found: models cannot be downloaded from PyPI" });
    let token = if logged_in { "with a token" } else { "without a token" };
    let asked = if offline { "not asked, because HF_HUB_OFFLINE is set" } else { token };
    outln!("hub        {} ({asked}); cache {}", hub.endpoint, hub.cache.display());
    for (name, there) in models {
        outln!("model      {name}: {}", if there { "in the cache" } else { "not downloaded yet" });
    }
    Ok(())
}
