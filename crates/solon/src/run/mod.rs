//! A plan being carried out: stages that are done once, resumed where they were broken off, and read by later stages.
//!
//! What all stages do alike is here, once: begin or skip, chunks of items that are not made yet, training with
//! checkpoints, the end. A stage is a function of the hash of its settings and inputs, of the run's seed and of its own
//! name ([`input_hash`]).

mod again;
mod attempts;
mod finish;
mod folder;
mod inputs;
mod model;
mod preregister;
mod provenance;
mod publish;
mod reader;
mod stage_run;
mod standing;
mod stop;

pub use finish::peak_memory_bytes;
pub use folder::{check_folder, data_hash, model_hash, sha256_json};
pub use inputs::Inputs;
pub use model::{Model, Start, copy_adapter, fresh_adapter, save_merged};
pub use preregister::Preregistration;
pub use provenance::{Evaluated, iso};
pub use reader::{Reader, Sourced};
pub use stage_run::{SLOTS, StageRun};
pub use standing::print_plan;
pub use stop::{remove_at_stop, safe_point, stop_asked, stop_on_interrupt, waiting};

use crate::catalogue;
use crate::chat_template;
use crate::cli::UsageError;
use crate::commands::{precision, with_threads};
use crate::memory::Pass;
use crate::plan::{Plan, Planned};
use crate::stages::{BASE, Column, Data, Method};
use anyhow::{Context, Result};
use folder::{Begun, RunFolder};
use serde_json::Value;
use solon_data::files::{sha256_file, sha256_parts, write_bytes_atomically};
use solon_data::ledger::{ItemData, ItemKind, TypedItem};
use solon_feedback::Constitution;
use solon_infer::chat::{ChatModel, OpenSettings};
use solon_kernels::isa::isa;
use solon_model::Training;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// The file by which a folder is known to hold an adapter.
const ADAPTER_CONFIG: &str = "adapter_config.json";
/// Of what a stage told: so many of its items got no reply, or were all refused, which may change. The same run asks again about them.
pub const NO_REPLY: &str = "no_reply";

/// A plan, its folder and what its stages share.
pub struct Run {
    plan: Plan,
    folder: RunFolder,
    model_path: PathBuf,
    model_sha256: String,
    /// Hash of what every stage depends on.
    base_hash: String,
    /// Hash of the constitution's file, and of which worked examples are used.
    constitution_hash: String,
    /// Opened when a stage first asks for it.
    base: OnceCell<Arc<ChatModel>>,
    /// Models that have every weight trained, opened when a stage first asks for one.
    full: std::cell::RefCell<BTreeMap<String, Arc<ChatModel>>>,
    /// The thresholds that it is held to.
    preregistration: Option<Preregistration>,
    /// Hash of the training that they are about.
    training: Option<String>,
    /// Hash of what each stage made that is finished with the run's recipe and its present inputs.
    made: BTreeMap<String, String>,
}

/// Which stages did some work.
#[derive(Default)]
pub struct Done {
    /// Their names.
    pub worked: BTreeSet<String>,
}

/// What a finished stage must have left in the run's folder `out`.
fn artefact(out: &Path, planned: &Planned) -> Option<PathBuf> {
    match planned.stage.output() {
        Data::Model | Data::Critic | Data::Labeller | Data::RewardModel => {
            Some(out.join("checkpoints").join(&planned.name))
        }
        Data::Saved => Some(out.join("model").join("model.safetensors")),
        _ => None,
    }
}

/// What every stage depends on: the machine's instruction set, the precision, the base model, the seed, the adapters' shape. Without
/// a model of the run, what a judge on this machine depends on.
fn base_hash(plan: &Plan, model_sha256: &str) -> Result<String> {
    let recipe = &plan.recipe;
    if !plan.needs_model() {
        // A local judge computes as any model does.
        return Ok(sha256_parts([
            isa().name(),
            precision(recipe.precision).name(),
            &sha256_json(&recipe.seed)?,
        ]));
    }
    let adapter = recipe.adapter.as_deref().map(model_hash).transpose()?;
    let settings =
        sha256_json(&(recipe.seed, &recipe.lora, recipe.memory_gb, recipe.weights.name(), adapter))?;
    let parts = [isa().name(), precision(recipe.precision).name(), model_sha256, &settings];
    let template = recipe.chat_template.as_deref().map(chat_template::source).transpose()?;
    Ok(sha256_parts(parts.into_iter().chain(template.as_deref())))
}

/// Hash of the constitution's file and of which of its worked examples are used; empty without one.
fn constitution_hash(plan: &Plan) -> Result<String> {
    match &plan.recipe.constitution {
        None => Ok(String::new()),
        Some(path) => {
            Ok(sha256_parts([constitution_sha256(path)?, sha256_json(&plan.recipe.worked_examples)?]))
        }
    }
}

/// SHA-256 of a constitution's file; of the content where it is a folder of several files.
fn constitution_sha256(path: &Path) -> Result<String> {
    match path.is_dir() {
        true => Ok(Constitution::open(path)?.sha256()?),
        false => Ok(sha256_file(path)?),
    }
}

/// The hash a stage is begun with, from the hashes of what its inputs made; `None` where one of them is not made yet.
fn input_hash(
    plan: &Plan,
    planned: &Planned,
    base: &str,
    constitution: &str,
    made: &BTreeMap<String, String>,
) -> Result<Option<String>> {
    let mut parts = vec![planned.name.clone(), planned.kind.name.to_owned(), base.to_owned()];
    parts.push(sha256_json(&planned.stage.settings())?);
    if planned.stage.needs_constitution() {
        parts.push(constitution.to_owned());
    }
    if planned.stage.keeps_apart() {
        let measured = plan
            .measured()?
            .iter()
            .flat_map(|measured| std::iter::once(&measured.stage).chain(&measured.texts));
        parts.push(sha256_parts(measured));
    }
    for (key, names) in &planned.inputs {
        parts.push((*key).to_owned());
        for name in names {
            let hash = match made.get(name) {
                Some(hash) => hash.as_str(),
                // Its hash is part of `base`.
                None if name == BASE => "",
                None => return Ok(None),
            };
            parts.push(format!("{name} {hash}"));
        }
    }
    Ok(Some(sha256_parts(parts)))
}

impl Run {
    /// Opens the run's folder. The model is opened when a stage first needs it.
    pub fn open(mut plan: Plan, out: &Path) -> Result<Self> {
        let (model_path, model_sha256) = match plan.needs_model() {
            true => {
                let path = catalogue::resolve(&plan.recipe.model)?;
                let sha256 = model_hash(&path)?;
                // The frozen recipe names the commit that this run is of.
                plan.recipe.model = catalogue::pinned(&plan.recipe.model, &path);
                (path, sha256)
            }
            false => Default::default(),
        };
        let base_hash = base_hash(&plan, &model_sha256)?;
        let constitution_hash = constitution_hash(&plan)?;
        let mut run = Self {
            folder: RunFolder::open(out)?,
            model_path,
            model_sha256,
            base_hash,
            constitution_hash,
            base: OnceCell::new(),
            full: Default::default(),
            preregistration: None,
            training: None,
            made: BTreeMap::new(),
            plan,
        };
        run.refuse_another_run()?;
        run.forget_old_prompts()?;
        // Before the recipe: whoever reads the folder must not find the new recipe over stages of the old one.
        run.write_inputs()?;
        let frozen =
            toml::to_string_pretty(&run.plan.recipe).context("the recipe cannot be written as TOML")?;
        write_bytes_atomically(&out.join("recipe.toml"), frozen.as_bytes())?;
        // A budget that is too small is refused before anything is computed.
        if run.plan.recipe.memory_gb.is_some() && run.plan.trains() && !run.plan.trains_every_weight() {
            let model = Arc::clone(run.base()?);
            run.pass(&model, Method::Lora, run.plan.recipe.lora.rank.get())?;
        }
        Ok(run)
    }

    /// A folder holds the run of one recipe: another's items could have the same ids.
    fn refuse_another_run(&self) -> Result<()> {
        let path = self.folder.path.join("recipe.toml");
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
        let there: Option<toml::Table> = text.parse().ok();
        let name = there.as_ref().and_then(|table| table.get("name")).and_then(toml::Value::as_str);
        match name {
            Some(name) if name != self.plan.recipe.name => {
                let out = self.folder.path.display();
                let (mine, hint) = (&self.plan.recipe.name, "hint: give another --out");
                Err(UsageError(format!("{out} holds a run of `{name}`, and this is `{mine}`\n{hint}")).into())
            }
            _ => Ok(()),
        }
    }

    /// Prompts are in the ledger under their own ids, so a stage that was renamed, or whose share of a file moved, would
    /// collide with what it was before. Stages whose prompts changed therefore lose them before any stage runs; their files
    /// still hold them.
    fn forget_old_prompts(&mut self) -> Result<()> {
        for old in self.folder.ledger.stages()? {
            if self.folder.ledger.item_ids(&old.name, ItemKind::Prompt)?.is_empty() {
                continue;
            }
            let same = match self.plan.stage(&old.name) {
                // Prompts made from prompts have ids under their own stage's name, with which nothing collides.
                Some(planned) if !planned.inputs.is_empty() => true,
                Some(planned) => {
                    let made = BTreeMap::new();
                    let hash =
                        input_hash(&self.plan, planned, &self.base_hash, &self.constitution_hash, &made)?;
                    let hash = hash.map(|hash| folder::hash_with_build(&hash)).transpose()?;
                    hash.as_ref() == Some(&old.input_hash)
                }
                None => false,
            };
            if !same {
                self.folder.ledger.remove_stage(&old.name)?;
            }
        }
        Ok(())
    }

    /// Carries out the stages in order, up to and with `until`.
    pub fn execute(&mut self, until: Option<&str>) -> Result<Done> {
        let mut done = Done::default();
        for planned in self.plan.stages.clone() {
            if self.carry_out(&planned)? {
                done.worked.insert(planned.name.clone());
            }
            // Before the next stage: once figures can be seen, they count.
            if planned.stage.output() == Data::Evaluation {
                self.record_attempt(&planned.name)?;
            }
            if until == Some(planned.name.as_str()) {
                break;
            }
        }
        Ok(done)
    }

    /// Does a stage unless it was done with the same inputs; says whether there was work.
    fn carry_out(&mut self, planned: &Rc<Planned>) -> Result<bool> {
        let name = &planned.name;
        let hash = input_hash(&self.plan, planned, &self.base_hash, &self.constitution_hash, &self.made)?;
        let hash = hash.with_context(|| format!("stage `{name}` is to run before its inputs"))?;
        if artefact(&self.folder.path, planned).is_some_and(|artefact| !artefact.exists())
            && self.is_done(name)?
        {
            eprintln!("{name}: what it made is gone, so it runs again");
            self.folder.ledger.remove_stage(name)?;
            self.write_inputs()?;
        }
        let (output, worked) = match self.folder.begin(name, &hash)? {
            Begun::Done { output_hash } => (output_hash, false),
            Begun::Work(clock) => {
                let detail = planned.stage.run(&mut StageRun::new(self, Rc::clone(planned)));
                if detail.is_err() && self.is_done(name)? {
                    eprintln!("{name}: its missing replies are still missing; the run stands as it did");
                }
                let detail = detail.with_context(|| format!("stage `{name}`"))?;
                self.reopen_stage(name)?;
                // Later stages read both: a labeller's items, for one, say what measures it.
                let items = self.folder.ledger.items_hash(name)?;
                let saved = self.folder.saved_hash(name)?.unwrap_or_default();
                let output = sha256_parts([items, saved]);
                self.folder.finish(clock, &output, &detail)?;
                self.write_inputs()?;
                eprintln!("{name}: done {}", told(&detail));
                (output, true)
            }
        };
        self.made.insert(name.clone(), output);
        Ok(worked)
    }

    /// Makes a finished stage that lacks replies a running one. To be called before anything of it is replaced: what later stages made
    /// of it must not be taken for made of what it will be. And not earlier, because servers may not answer: then the run stays finished.
    fn reopen_stage(&mut self, stage: &str) -> Result<()> {
        if self.is_done(stage)? {
            self.folder.ledger.reopen_stage(stage)?;
            self.write_inputs()?;
        }
        Ok(())
    }

    fn is_done(&self, stage: &str) -> Result<bool> {
        Ok(self.folder.ledger.stage(stage)?.is_some_and(|stage| stage.done))
    }

    /// What a finished stage told.
    pub fn detail(&self, stage: &str) -> Result<Value> {
        Ok(self.folder.ledger.stage(stage)?.map(|stage| stage.detail).unwrap_or_default())
    }

    /// The items of a stage, dropped ones included.
    pub fn items<T: ItemData>(&self, stage: &str) -> Result<Vec<TypedItem<T>>> {
        Ok(self.folder.ledger.items(stage)?)
    }

    /// A stage's view of the run.
    pub fn reader(&self, stage: &str) -> Result<Reader<'_>> {
        let planned = self.plan.stage(stage).with_context(|| format!("there is no stage `{stage}`"))?;
        Ok(Reader::new(self, planned))
    }

    /// What each model evaluated by a stage comes to.
    pub fn columns(&self, stage: &str) -> Result<Vec<Column>> {
        self.reader(stage)?.columns()
    }

    /// The base model with its own adapter.
    fn base(&self) -> Result<&Arc<ChatModel>> {
        if let Some(model) = self.base.get() {
            return Ok(model);
        }
        let recipe = &self.plan.recipe;
        let training = if self.plan.trains() { Training::Frozen } else { recipe.weights.into() };
        let settings = OpenSettings { precision: precision(recipe.precision), training };
        let mut model = ChatModel::open(&self.model_path, recipe.adapter.as_deref(), settings)
            .with_context(|| format!("model {}", recipe.model))?;
        let template = recipe.chat_template.as_deref();
        chat_template::note_unused(&model.text, recipe.adapter.as_deref(), template);
        model.text = chat_template::replaced(model.text, template)?;
        Ok(self.base.get_or_init(|| Arc::new(model)))
    }

    /// How much goes through a model at a time while it is trained; `rank` is that of a trained adapter.
    fn pass(&self, model: &ChatModel, method: Method, rank: usize) -> Result<Pass> {
        let rank = match method {
            Method::Lora => Some(rank),
            Method::Full => None,
        };
        let precision = model.decoder.backend().precision();
        Pass::within(self.plan.recipe.memory_gb, model.config(), rank, precision)
    }
}

/// Runs a plan in a folder with this many threads, held to a preregistration where there is one; `then` sees the run when its
/// last stage is done.
pub fn run_plan<T>(
    plan: Plan,
    out: &Path,
    threads: Option<usize>,
    until: Option<&str>,
    held_to: Option<Preregistration>,
    then: impl FnOnce(&mut Run, &Done) -> Result<T>,
) -> Result<T> {
    with_threads(threads, || {
        let mut run = Run::open(plan, out)?;
        // Not before: there is no safe point in a download, and one that was killed goes on where it was.
        stop_on_interrupt()?;
        if let Some(held_to) = held_to {
            run.preregister(held_to)?;
        }
        let done = run.execute(until)?;
        then(&mut run, &done)
    })
}

/// Whether a stage is done but for replies that did not come.
fn lacks_replies(stage: &solon_data::ledger::Stage) -> bool {
    stage.done && stage.detail[NO_REPLY].as_u64().is_some_and(|count| count > 0)
}

/// A stage's counts in a few words.
fn told(detail: &Value) -> String {
    let Some(object) = detail.as_object() else { return String::new() };
    let parts: Vec<String> = object
        .iter()
        .filter_map(|(name, value)| match value.as_f64()? {
            x if x.fract() != 0.0 => Some(format!("{name} {x:.3}")),
            _ => Some(format!("{name} {value}")),
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!("({})", parts.join(", ")) }
}
