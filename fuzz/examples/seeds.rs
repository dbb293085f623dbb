//! Writes the seeds of every target: `cargo run -p solon-fuzz --example seeds FOLDER` makes `FOLDER/TARGET/NUMBER`.

use std::path::PathBuf;

use solon_fuzz::{Target, seeds};

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("error: no folder\nhint: cargo run -p solon-fuzz --example seeds FOLDER");
        std::process::exit(2);
    };
    for target in Target::ALL {
        let folder = folder.join(target.name());
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in seeds::of(target).into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
