//! The plan: a recipe's stages with their settings read and their inputs connected, checked before anything is computed.
//!
//! There is no scheduler and no graph: the order of the file is the order of the run. An input is the name of an earlier
//! stage, `base` (the recipe's model), or a file; a file becomes a stage of its own that loads it, in front of the stage
//! that names it. A connection that does not fit is an error that names the stage, the key and what would fit.

use crate::assets;
use crate::catalogue;
use crate::cli::UsageError;
use crate::data_files;
use crate::hub;
use crate::piped::at_rest;
use crate::recipe::{Recipe, stage_name};
use crate::stages::{
    BASE, Data, Input, KINDS, Keys, Kind, Measured, Method, Missing, Preflight, Source, Stage,
};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use solon_feedback::{Ask, Constitution, FeedbackError};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A checked list of stages.
pub struct Plan {
    /// The recipe with its files found: what is frozen in the run's folder.
    pub recipe: Recipe,
    /// The stages in the order they run.
    pub stages: Vec<Rc<Planned>>,
    /// The rules, with the worked examples that the recipe uses.
    pub constitution: Option<Constitution>,
    /// Read when it is first asked for.
    measured: OnceCell<Vec<Measured>>,
}

/// A stage and where its inputs come from.
pub struct Planned {
    /// Its name, unique in the plan.
    pub name: String,
    /// Its kind.
    pub kind: &'static Kind,
    /// Its settings and its work.
    pub stage: Box<dyn Stage>,
    /// Names of earlier stages or `base`, by key, in the order they were written.
    pub inputs: Vec<(&'static str, Vec<String>)>,
}

impl Planned {
    /// The stages that an input names.
    pub fn input(&self, key: &str) -> &[String] {
        self.inputs.iter().find(|(known, _)| *known == key).map(|(_, names)| &names[..]).unwrap_or_default()
    }
}

impl Plan {
    /// The plan of a recipe that is to run: connected as by [`Self::of`], and each stage has looked at what comes from outside.
    pub fn to_run(recipe: Recipe, folder: &Path) -> Result<Self> {
        let plan = Self::of(recipe, folder)?;
        plan.preflight()?;
        Ok(plan)
    }

    /// Reads and connects the stages of a recipe. Files are looked for beside `folder`, in the folders above it, in the
    /// working folder, among those the program carries, and on the Hub where they have the form of its names.
    pub fn of(mut recipe: Recipe, folder: &Path) -> Result<Self> {
        if let Some(constitution) = &mut recipe.constitution {
            *constitution = find_here(constitution, folder)?;
        }
        if let Some(template) = &mut recipe.chat_template {
            *template = find_here(template, folder)?;
        }
        if let Some(adapter) = &mut recipe.adapter {
            *adapter = find(hub::Wanted::Adapter, adapter, folder)?;
        }
        let mut builder = Builder { recipe: &recipe, folder, stages: Vec::new(), tables: Vec::new() };
        if recipe.constitution.is_some() {
            builder.add(toml::Table::from_iter([("kind".to_owned(), "principles".into())]))?;
        }
        for table in &recipe.stages {
            builder.add(table.clone())?;
        }
        let Builder { stages, tables, .. } = builder;
        // The constitution's own stage is made from `constitution`, and a frozen recipe must not hold it twice.
        recipe.stages = tables.into_iter().filter(|table| stage_kind(table) != Some("principles")).collect();
        let constitution = recipe.open_constitution()?;
        let plan = Self { recipe, stages, constitution, measured: OnceCell::new() };
        plan.check_weights()?;
        plan.check_one_of_a_kind()?;
        plan.check_questions()?;
        Ok(plan)
    }

    /// The stage of this name.
    pub fn stage(&self, name: &str) -> Option<&Rc<Planned>> {
        self.stages.iter().find(|planned| planned.name == name)
    }

    /// Refuses to stop after a stage that is not there.
    pub fn check_until(&self, until: Option<&str>) -> Result<()> {
        let Some(until) = until.filter(|name| self.stage(name).is_none()) else { return Ok(()) };
        let names: Vec<&str> = self.stages.iter().map(|planned| planned.name.as_str()).collect();
        let names = names.join(", ");
        let text = format!("--until {until}: there is no stage of that name\nhint: the stages are {names}");
        Err(UsageError(text).into())
    }

    /// Whether any stage trains.
    pub fn trains(&self) -> bool {
        self.stages.iter().any(|planned| planned.stage.trains().is_some())
    }

    /// Whether any stage reads or makes a model. A run that asks judges alone opens none.
    pub fn needs_model(&self) -> bool {
        let plain = [
            Data::Prompts,
            Data::Answers,
            Data::Demonstrations,
            Data::Pairs,
            Data::Preferences,
            Data::Principles,
            Data::Inferred,
            Data::Measured,
        ];
        self.stages.iter().any(|planned| {
            let mut inputs = planned.inputs.iter().flat_map(|(_, names)| names);
            !plain.contains(&planned.stage.output()) || inputs.any(|name| name == BASE)
        })
    }

    /// Whether any stage trains every weight.
    pub fn trains_every_weight(&self) -> bool {
        self.stages.iter().any(|planned| planned.stage.trains() == Some(Method::Full))
    }

    /// What may be trained from what: every weight of a model that an adapter was trained on would leave the adapter
    /// behind.
    fn check_weights(&self) -> Result<()> {
        for planned in &self.stages {
            if planned.stage.trains() != Some(Method::Full) {
                continue;
            }
            for from in planned.input("from") {
                let adapter = match self.stage(from) {
                    Some(start) => start.stage.trains() != Some(Method::Full),
                    None => self.recipe.adapter.is_some(),
                };
                if adapter {
                    let text = format!(
                        "stage `{}`: method = \"full\" trains every weight, but `{from}` is an adapter\n\
                         hint: give method = \"lora\", or start from `{BASE}` without an adapter",
                        planned.name
                    );
                    return Err(UsageError(text).into());
                }
            }
        }
        if self.recipe.weights != crate::cli::WeightsFlag::Full && self.trains() {
            let text = "weights = \"int8\" is for stages that only run a model; a stage of this plan trains";
            return Err(UsageError(text.to_owned()).into());
        }
        Ok(())
    }

    /// What a recipe may hold once only, and what must lie on one model.
    fn check_one_of_a_kind(&self) -> Result<()> {
        let mut saving = self.stages.iter().filter(|planned| planned.stage.output() == Data::Saved);
        if let (Some(first), Some(second)) = (saving.next(), saving.next()) {
            let (first, second) = (&first.name, &second.name);
            let text = format!(
                "stage `{second}`: `{first}` saves the delivered model already; a recipe delivers one"
            );
            return Err(UsageError(text).into());
        }
        for planned in &self.stages {
            let [from] = planned.input("from") else { continue };
            for reward in planned.input("reward_model") {
                let (policy, other) = (self.decoder_of(from), self.decoder_of(reward));
                if policy != other {
                    let text = format!(
                        "stage `{}`: `{from}` lies on the weights of `{policy}` and `{reward}` on those of `{other}`; \
                         policy, reference, reward models and critic share one model\n\
                         hint: train the reward model from = \"{policy}\"",
                        planned.name
                    );
                    return Err(UsageError(text).into());
                }
            }
        }
        Ok(())
    }

    /// Who asks apart needs questions about requests.
    fn check_questions(&self) -> Result<()> {
        let Some(constitution) = &self.constitution else { return Ok(()) };
        let apart = self.stages.iter().any(|planned| planned.stage.ask() == Some(Ask::Apart));
        if apart && constitution.request_questions().is_empty() {
            return Err(FeedbackError::NoRequestQuestion { constitution: constitution.name.clone() }.into());
        }
        Ok(())
    }

    /// The model whose weights a stage's adapter lies on: `base`, or a stage that trained every weight.
    fn decoder_of<'a>(&'a self, name: &'a str) -> &'a str {
        match self.stage(name) {
            Some(planned) if planned.stage.trains() == Some(Method::Full) => name,
            Some(planned) => planned.input("from").first().map_or(BASE, |from| self.decoder_of(from)),
            None => BASE,
        }
    }

    /// The files and folders that an evaluation reads, its prompts' among them.
    pub fn measures_on(&self, stage: &str) -> Vec<&Source> {
        let Some(planned) = self.stage(stage) else { return Vec::new() };
        let mut found = planned.stage.measures_on();
        for prompts in planned.input("prompts") {
            let before = self.ancestors(prompts);
            let stages = before.iter().chain([prompts]).filter_map(|name| self.stage(name));
            found.extend(stages.flat_map(|planned| planned.stage.measures_on()));
        }
        found
    }

    /// What the stages measure models on, or choose among them by.
    pub fn measured(&self) -> Result<&[Measured]> {
        if let Some(measured) = self.measured.get() {
            return Ok(measured);
        }
        let mut measured = Vec::new();
        for planned in &self.stages {
            let prompts = planned.input("prompts").iter().filter_map(|name| self.stage(name));
            let prompts: Vec<&dyn Stage> = prompts.map(|planned| &*planned.stage).collect();
            let texts = planned.stage.measured(&prompts);
            let texts = texts.with_context(|| format!("stage `{}`", planned.name))?;
            if !texts.is_empty() {
                measured.push(Measured { stage: planned.name.clone(), texts });
            }
        }
        Ok(self.measured.get_or_init(|| measured))
    }

    /// The settings of an evaluation, then those of the stages that its prompts come from.
    pub fn evaluation_settings(&self, stage: &str) -> Vec<Value> {
        let Some(planned) = self.stage(stage) else { return Vec::new() };
        let prompts = planned.input("prompts").iter();
        let before = prompts.flat_map(|name| self.ancestors(name).into_iter().chain([name.clone()]));
        let before = before.collect::<Vec<_>>();
        let stages = before.iter().filter_map(|name| self.stage(name));
        [planned].into_iter().chain(stages).map(|planned| planned.stage.settings()).collect()
    }

    /// Every stage that a stage's inputs come from, directly or not.
    fn ancestors(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![name.to_owned()];
        while let Some(planned) = waiting.pop().and_then(|name| self.stage(&name)) {
            for (_, names) in &planned.inputs {
                waiting.extend(names.iter().filter(|name| found.insert((*name).clone())).cloned());
            }
            waiting.retain(|name| self.stage(name).is_some());
        }
        found
    }

    /// Lets every stage look at what comes from outside, and refuses ids that two stages would both put into the ledger.
    fn preflight(&self) -> Result<()> {
        let mut ids: BTreeMap<String, &str> = BTreeMap::new();
        for planned in &self.stages {
            let inputs = |key: &str| -> Vec<&dyn Stage> {
                let names = planned.input(key).iter();
                names.filter_map(|name| self.stage(name)).map(|planned| &*planned.stage).collect()
            };
            let names_of = |stage: &str, key: &str| -> Vec<String> {
                self.stage(stage).map(|planned| planned.input(key).to_vec()).unwrap_or_default()
            };
            let inputs_of = |stage: &str, key: &str| -> Vec<&dyn Stage> {
                let names = self.stage(stage).map(|planned| planned.input(key)).unwrap_or_default();
                names.iter().filter_map(|name| self.stage(name)).map(|planned| &*planned.stage).collect()
            };
            let names = |key: &str| planned.input(key).to_vec();
            let own = planned
                .stage
                .preflight(&Preflight {
                    inputs: &inputs,
                    names: &names,
                    names_of: &names_of,
                    inputs_of: &inputs_of,
                    ancestors: &|name| self.ancestors(name),
                    stage: &|name| self.stage(name).map(|planned| &*planned.stage),
                    measured: &|| self.measured(),
                    constitution: self.constitution.as_ref(),
                })
                .with_context(|| format!("stage `{}`", planned.name))?;
            for id in own {
                if let Some(first) = ids.insert(id.clone(), &planned.name) {
                    bail!(
                        "the id `{id}` stands in stage `{first}` and in stage `{}`\n\
                         hint: give every prompt an `id` of its own, or let both stages read one stage of prompts",
                        planned.name
                    );
                }
            }
        }
        Ok(())
    }
}

fn stage_kind(table: &toml::Table) -> Option<&str> {
    table.get("kind").and_then(toml::Value::as_str)
}

/// A plan in the making.
struct Builder<'a> {
    recipe: &'a Recipe,
    /// Where the recipe lies.
    folder: &'a Path,
    stages: Vec<Rc<Planned>>,
    tables: Vec<toml::Table>,
}

/// A file beside the recipe, above it, in the working folder, or among those the program carries.
fn find_here(file: &Path, folder: &Path) -> Result<PathBuf> {
    at_rest(assets::find(file, &[folder])?)
}

/// The same, or what a repository of the Hub with this name holds.
fn find(wanted: hub::Wanted, file: &Path, folder: &Path) -> Result<PathBuf> {
    let repository = file.to_str().and_then(hub::named);
    match (find_here(file, folder), repository) {
        (Err(_), Some(name)) => hub::get(wanted, &name),
        (found, _) => found,
    }
}

/// One text, or a list of several, as a recipe writes them.
fn one_or_list(texts: impl IntoIterator<Item = String>) -> toml::Value {
    let mut values: Vec<toml::Value> = texts.into_iter().map(toml::Value::from).collect();
    match values.pop() {
        Some(only) if values.is_empty() => only,
        last => values.into_iter().chain(last).collect::<Vec<_>>().into(),
    }
}

/// The values of a key that may hold one or a list.
fn one_or_many<'a>(table: &'a mut toml::Table, key: &str) -> Vec<&'a mut toml::Value> {
    match table.get_mut(key) {
        Some(toml::Value::Array(values)) => values.iter_mut().collect(),
        value => value.into_iter().collect(),
    }
}

impl Builder<'_> {
    /// Adds a stage, and in front of it those that load its files.
    fn add(&mut self, mut table: toml::Table) -> Result<()> {
        let wrong = |text: String| UsageError(text);
        let place = self.tables.len() + 1;
        let kind = stage_kind(&table).ok_or_else(|| {
            wrong(format!("[[stage]] {place} has no `kind`; it is one of {}", kind_names()))
        })?;
        let kind = KINDS.iter().find(|known| known.name == kind).ok_or_else(|| {
            wrong(format!("[[stage]] {place}: there is no kind `{kind}`; it is one of {}", kind_names()))
        })?;
        let name = stage_name(&table).unwrap_or(kind.name).to_owned();
        self.check_name(&name)?;
        // What a stage reads itself is found now, so that the frozen recipe does not depend on where it lies.
        if kind.loads_data() {
            let given = one_or_many(&mut table, "file");
            let names = given.iter().map(|file| file.as_str().map(PathBuf::from));
            // Of a value that is no path the kind itself says so.
            if let Some(names) = names.collect::<Option<Vec<_>>>().filter(|names| !names.is_empty()) {
                let found = data_files::find_all(&names, &[self.folder]);
                let found = found.with_context(|| format!("stage `{name}`: file"))?;
                let found = found.iter().map(|path| path.display().to_string());
                table.insert("file".to_owned(), one_or_list(found));
            }
        }
        let single = if kind.loads_data() { None } else { Some("file") };
        for key in single.into_iter().chain((kind.files)()) {
            for file in one_or_many(&mut table, key) {
                let Some(given) = file.as_str() else { continue };
                let found = find(kind.on_hub(), Path::new(given), self.folder)
                    .with_context(|| format!("stage `{name}`: {key}"))?;
                *file = found.display().to_string().into();
            }
        }
        // A local judge is a path, or the name of a model.
        for judge in one_or_many(&mut table, "judge") {
            let Some(model) = judge.as_str().and_then(|judge| judge.strip_prefix("local:")) else { continue };
            if let Ok(found) = find_here(Path::new(model), self.folder) {
                *judge = format!("local:{}", found.display()).into();
            } else if hub::named(model).is_some()
                && let Ok(path) = catalogue::resolve(model)
            {
                *judge = format!("local:{}", catalogue::pinned(model, &path)).into();
            }
        }
        let mut keys = table.clone();
        keys.remove("kind");
        keys.remove("name");
        let stage = (kind.parse)(Keys::new(keys)).map_err(|what| wrong(format!("stage `{name}`: {what}")))?;
        if stage.needs_constitution() && self.recipe.constitution.is_none() {
            return Err(wrong(format!(
                "stage `{name}` needs a constitution\nhint: write constitution = \"constitutions/default.toml\" at the top"
            ))
            .into());
        }
        let mut inputs = Vec::new();
        for input in stage.inputs() {
            inputs.push((input.key, self.connect(&name, &mut table, input)?));
        }
        self.tables.push(table);
        self.stages.push(Rc::new(Planned { name, kind, stage, inputs }));
        Ok(())
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let recipe_keys = ["lora", "name", "seed", "model", "precision", "stage"];
        let what = if name.is_empty() || !name.chars().all(plain) {
            "names are of letters, digits, - and _"
        } else if name == BASE {
            "that is the base model's name"
        } else if recipe_keys.contains(&name) {
            "a key of the recipe has that name, and --set could not tell them apart"
        } else if self.stages.iter().any(|planned| planned.name == name) {
            "an earlier stage has that name; give one of them a `name` of its own"
        } else {
            return Ok(());
        };
        Err(UsageError(format!("stage `{name}`: {what}")).into())
    }

    /// The stages an input comes from.
    fn connect(&mut self, name: &str, table: &mut toml::Table, input: Input) -> Result<Vec<String>> {
        let Input { key, names, accepts, missing } = input;
        if names.is_empty() {
            return match missing {
                Missing::Nothing => Ok(Vec::new()),
                Missing::Everything => Ok(self.fitting(accepts)),
                Missing::Refused => Err(UsageError(format!(
                    "stage `{name}` needs `{key}`: {}\nhint: {}",
                    what_fits(accepts),
                    self.would_fit(accepts)
                ))
                .into()),
            };
        }
        let mut connected = Vec::new();
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            let text = format!("stage `{name}`: {key}: \"{}\" is named twice", twice.1);
            return Err(UsageError(text).into());
        }
        let loader = accepts.iter().find_map(|data| data.loader());
        let many = KINDS.iter().any(|kind| loader == Some(kind.name) && kind.loads_data());
        let mut loaded = false;
        let mut given = names.into_iter().peekable();
        while let Some(first) = given.next() {
            let from = match loader {
                Some(loader) if is_file(&first) => {
                    // Files that stand together are read as one.
                    let mut files = vec![first];
                    while let Some(next) = given.next_if(|next| many && is_file(next)) {
                        files.push(next);
                    }
                    loaded = true;
                    self.load(name, key, loader, files)?
                }
                _ => first,
            };
            let made = match self.stages.iter().find(|planned| planned.name == from) {
                Some(planned) => Some(planned.stage.output()),
                None => (from == BASE).then_some(Data::Model),
            };
            let what = match made {
                None => "there is no earlier stage of that name".to_owned(),
                Some(made) if !accepts.contains(&made) => format!("that stage makes a {}", made.name()),
                Some(_) if connected.contains(&from) => "it is named twice".to_owned(),
                Some(_) => {
                    connected.push(from);
                    continue;
                }
            };
            return Err(UsageError(format!(
                "stage `{name}`: {key} = \"{from}\": {what}; {}\nhint: {}",
                what_fits(accepts),
                self.would_fit(accepts)
            ))
            .into());
        }
        if loaded {
            // The frozen recipe names the loading stages.
            table.insert(key.to_owned(), one_or_list(connected.iter().cloned()));
        }
        Ok(connected)
    }

    /// Adds a stage that loads files for another's input, and returns its name.
    fn load(&mut self, stage: &str, key: &str, loader: &str, files: Vec<String>) -> Result<String> {
        let taken = |name: &str| self.stages.iter().any(|planned| planned.name == name);
        let first = format!("{stage}-{key}");
        let name = match taken(&first) {
            false => first,
            true => (2..).map(|n| format!("{first}-{n}")).find(|name| !taken(name)).unwrap_or(first),
        };
        let file = one_or_list(files);
        let entries = [("kind", loader.into()), ("name", name.as_str().into()), ("file", file)];
        self.add(
            entries.into_iter().map(|(key, value): (&str, toml::Value)| (key.to_owned(), value)).collect(),
        )?;
        Ok(name)
    }

    /// The base model and the earlier stages that make one of these, in their order.
    fn fitting(&self, accepts: &[Data]) -> Vec<String> {
        let base = accepts.contains(&Data::Model).then(|| BASE.to_owned());
        let stages = self.stages.iter().filter(|planned| accepts.contains(&planned.stage.output()));
        base.into_iter().chain(stages.map(|planned| planned.name.clone())).collect()
    }

    fn would_fit(&self, accepts: &[Data]) -> String {
        let names = self.fitting(accepts);
        let file = if accepts.iter().any(|data| data.loader().is_some()) { ", or a file" } else { "" };
        match names.is_empty() {
            true if file.is_empty() => {
                "no earlier stage makes one; add such a stage before this one".to_owned()
            }
            true => "no earlier stage makes one; add such a stage before this one, or name a file".to_owned(),
            false => format!("what would fit: {}{file}", names.join(", ")),
        }
    }
}

fn kind_names() -> String {
    KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}

fn what_fits(accepts: &[Data]) -> String {
    let names: Vec<&str> = accepts.iter().map(|data| data.name()).collect();
    format!("it takes {}", names.join(" or "))
}

/// Whether an input names files: names of stages hold neither dots nor slashes, nor what patterns are made of.
fn is_file(given: &str) -> bool {
    given.contains(['/', '.', '\\']) || data_files::is_pattern(given)
}
