//! What people have and give: templates, models, adapters and data as other programs make them, and as they go wrong. Each is read
//! as those programs read it, or refused by name.

#[path = "../place/mod.rs"]
mod place;

mod data;
mod hub;
mod models;
mod piped;
mod several;
mod templates;
