//! Models of a run: the base model, adapters on it, and models that had every weight trained.
//!
//! Policies, critics, labellers and reward models are adapters on one decoder wherever they can be, so that many models
//! cost little more memory than one.

use super::folder::folder_hash;
use super::{ADAPTER_CONFIG, Run, StageRun};
use crate::catalogue;
use crate::chat_template;
use crate::stages::{BASE, Method};
use anyhow::{Context, Result, anyhow, bail};
use solon_draws::Draws;
use solon_infer::chat::{ChatModel, OpenSettings};
use solon_model::parameters::Projection;
use solon_model::weights::{AdapterFile, Checkpoint, SaveType, Tensor, TokenIds, save_hugging_face};
use solon_model::{Adapter, Device, LoraSettings, ScalarHead, Training};
use solon_train::Learner;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model that answers: a decoder with its text, an adapter on it, and the scalar head of a reward model.
pub struct Model {
    /// Decoder, tokenizer and template.
    pub chat: Arc<ChatModel>,
    /// The adapter on it.
    pub adapter: Option<Adapter<Device>>,
    /// The scalar head's weight, where there is one: `[hidden_size]`.
    pub head: Option<Vec<f32>>,
}

impl Run {
    /// The model a stage trained, or the base model.
    pub(super) fn model(&self, name: &str) -> Result<Model> {
        if name == BASE {
            let chat = Arc::clone(self.base()?);
            let adapter = chat.adapter.as_ref().map(|adapter| adapter.duplicate(chat.decoder.backend()));
            let head = chat.score.as_ref().map(|head| head.weight.to_vec());
            return Ok(Model { chat, adapter, head });
        }
        let folder = self.folder.saved(name);
        if !folder.join(ADAPTER_CONFIG).exists() {
            let chat = self.full_model(name)?;
            let head = chat.score.as_ref().map(|head| head.weight.to_vec());
            return Ok(Model { chat, adapter: None, head });
        }
        let planned = self.plan.stage(name).with_context(|| format!("there is no stage `{name}`"))?;
        let from = planned.input("from").first().map(String::as_str).unwrap_or(BASE);
        let chat = self.decoder_of(from)?;
        let (adapter, head) = open_adapter(&chat, &folder)?;
        Ok(Model { chat, adapter: Some(adapter), head })
    }

    /// The decoder that a stage's adapter lies on.
    fn decoder_of(&self, name: &str) -> Result<Arc<ChatModel>> {
        if name == BASE {
            return Ok(Arc::clone(self.base()?));
        }
        if !self.folder.saved(name).join(ADAPTER_CONFIG).exists() {
            return self.full_model(name);
        }
        let planned = self.plan.stage(name).with_context(|| format!("there is no stage `{name}`"))?;
        self.decoder_of(planned.input("from").first().map(String::as_str).unwrap_or(BASE))
    }

    /// A model that had every weight trained.
    fn full_model(&self, name: &str) -> Result<Arc<ChatModel>> {
        if let Some(model) = self.full.borrow().get(name) {
            return Ok(Arc::clone(model));
        }
        let settings = OpenSettings {
            precision: crate::commands::precision(self.plan.recipe.precision),
            training: Training::Frozen,
        };
        let model = Arc::new(ChatModel::open(&self.folder.saved(name), None, settings)?);
        self.full.borrow_mut().insert(name.to_owned(), Arc::clone(&model));
        Ok(model)
    }
}

/// An adapter from a folder, with its scalar head where it has one.
pub fn open_adapter(model: &ChatModel, folder: &Path) -> Result<(Adapter<Device>, Option<Vec<f32>>)> {
    let file = AdapterFile::open(folder)?;
    let adapter = Adapter::from_file(model.decoder.backend(), model.config(), &file)
        .map_err(|reason| anyhow!("the adapter {} does not fit the model: {reason}", folder.display()))?;
    let head = file.score.map(|score| score.data);
    if let Some(head) = &head
        && head.len() != model.config().hidden_size
    {
        bail!(
            "{}: its score head is not of one label and {} inputs\nhint: train it with `solon reward` on the same model",
            folder.display(),
            model.config().hidden_size
        );
    }
    Ok((adapter, head))
}

/// What a training stage starts from, before it is taken apart.
pub enum Start {
    /// An adapter, old or still to be made, on a decoder that others use too.
    Shared(Box<Model>),
    /// A decoder of its own, whose every weight will be trained.
    Own(Box<ChatModel>),
}

impl Start {
    /// The model with its text.
    pub fn chat(&self) -> &ChatModel {
        match self {
            Start::Shared(model) => &model.chat,
            Start::Own(chat) => chat,
        }
    }

    /// The model on a shared decoder.
    pub fn shared(&self) -> Result<&Model> {
        match self {
            Start::Shared(model) => Ok(model),
            Start::Own(_) => bail!("this stage trains an adapter on a model that others use too"),
        }
    }

    /// The scalar head training goes on from: `[hidden_size]`.
    pub fn head(&self) -> Option<Vec<f32>> {
        match self {
            Start::Shared(model) => model.head.clone(),
            Start::Own(chat) => chat.score.as_ref().map(|head| head.weight.to_vec()),
        }
    }

    /// The adapter training continues from.
    pub fn adapter(&self) -> Option<&Adapter<Device>> {
        match self {
            Start::Shared(model) => model.adapter.as_ref(),
            Start::Own(_) => None,
        }
    }
}

/// What is trained, and what is needed beside it to save it.
pub struct Student {
    /// What is trained.
    pub learner: Learner<Device>,
    /// The file or folder its decoder came from.
    path: PathBuf,
    files: Vec<(String, Vec<u8>)>,
    ids: TokenIds,
}

impl StageRun<'_> {
    /// Opens what an input names, to train it by this method.
    pub fn start(&self, key: &str, method: Method) -> Result<Start> {
        let run = self.run();
        let reader = self.read();
        match method {
            Method::Lora => Ok(Start::Shared(Box::new(reader.model(key)?))),
            Method::Full => {
                let path = match reader.input(key) {
                    [name] if name == BASE => run.model_path.clone(),
                    [name] => run.folder.saved(name),
                    _ => bail!("`{key}` is to name one model"),
                };
                let precision = crate::commands::precision(run.plan.recipe.precision);
                let settings = OpenSettings { precision, training: Training::Full };
                let mut chat = ChatModel::open(&path, None, settings)?;
                if path == run.model_path {
                    let template = run.plan.recipe.chat_template.as_deref();
                    chat.text = chat_template::replaced(chat.text, template)?;
                }
                run.pass(&chat, method, 0)?;
                Ok(Start::Own(Box::new(chat)))
            }
        }
    }

    /// What is trained: the adapter of `start`, or a fresh one, or every weight; with a scalar head where one is given.
    pub fn student(&self, start: Start, head: Option<Vec<f32>>) -> Result<Student> {
        if head.is_none() {
            start.chat().check_writes()?;
        }
        let lora = self.run().plan.recipe.lora;
        let (decoder, adapter, path, files, ids) = match start {
            Start::Shared(model) => {
                let Model { chat, adapter, .. } = *model;
                let adapter = match adapter {
                    Some(adapter) => {
                        let rank = adapter.settings.largest_rank();
                        if rank != lora.rank.get() && lora != Default::default() {
                            let wanted = lora.rank;
                            eprintln!(
                                "note: the adapter that training continues from has rank {rank}, which stays; lora.rank is {wanted}"
                            );
                        }
                        adapter
                    }
                    None => fresh_adapter(&chat, lora.rank.get(), lora.alpha, self.draws()),
                };
                let (files, ids) = chat.saved_text(head.is_some())?;
                (Arc::clone(&chat.decoder), Some(adapter), chat.path.clone(), files, ids)
            }
            Start::Own(chat) => {
                let (files, ids) = chat.saved_text(head.is_some())?;
                let ChatModel { decoder, path, .. } = *chat;
                (decoder, None, path, files, ids)
            }
        };
        let head = head.map(|weight| ScalarHead::new(decoder.backend(), weight));
        Ok(Student { learner: Learner::new(decoder, adapter, head), path, files, ids })
    }

    /// Saves what was trained in the stage's folder: a PEFT adapter, or a Hugging Face folder.
    pub fn save(&mut self, student: &Student, steps: usize) -> Result<()> {
        let folder = self.folder();
        let base = self.shown_base(&student.path);
        let learner = &student.learner;
        let head = learner.scalar.as_ref().map(|head| &head.weight);
        match &learner.adapter {
            Some(adapter) => {
                adapter.to_file(learner.decoder.backend(), Some(base), head).save(&folder)?;
                self.run().save_template(&folder)?;
            }
            None => save_whole(student, &folder)?,
        }
        let hash = folder_hash(&folder)?;
        self.record_checkpoint(steps, &hash)
    }

    /// Saves an adapter on the decoder of `chat`, which the stage made without training, in the stage's folder.
    pub fn save_adapter(&mut self, chat: &ChatModel, adapter: &Adapter<Device>) -> Result<()> {
        let folder = self.folder();
        let base = self.shown_base(&chat.path);
        adapter.to_file(chat.decoder.backend(), Some(base), None).save(&folder)?;
        self.run().save_template(&folder)?;
        let hash = folder_hash(&folder)?;
        self.record_checkpoint(0, &hash)
    }

    /// The base model as the user named it, or the folder of a model that had every weight trained.
    fn shown_base(&self, path: &Path) -> String {
        match path == self.run().model_path {
            true => catalogue::shown(&self.run().plan.recipe.model),
            false => path.display().to_string(),
        }
    }
}

/// Copies an adapter from outside into the stage's folder, if it fits the base model; says whether it has a scalar head.
pub fn copy_adapter(run: &mut StageRun<'_>, from: &Path) -> Result<bool> {
    let chat = Arc::clone(run.run().base()?);
    let (_, head) = open_adapter(&chat, from)?;
    let folder = run.folder();
    AdapterFile::open(from)?.save(&folder)?;
    let hash = folder_hash(&folder)?;
    run.record_checkpoint(0, &hash)?;
    Ok(head.is_some())
}

/// Saves a model whose every weight was trained as a Hugging Face folder.
fn save_whole(student: &Student, folder: &Path) -> Result<()> {
    let Student { learner, path, files, ids } = student;
    let mut checkpoint = Checkpoint::open(path)?;
    for (name, values) in learner.decoder.trained_values().iter().flat_map(|tensors| tensors.named()) {
        let tensor =
            checkpoint.tensors.get_mut(&name).with_context(|| format!("the model has no tensor {name}"))?;
        tensor.data.copy_from_slice(values);
    }
    let head = learner
        .scalar
        .as_ref()
        .map(|head| Tensor { shape: vec![1, head.weight.len()], data: head.weight.to_vec() });
    save_hugging_face(
        folder,
        &checkpoint.config,
        &checkpoint.tensors,
        SaveType::F32,
        head.as_ref(),
        files,
        ids,
    )?;
    Ok(())
}

/// Saves a model with its adapter merged in as a Hugging Face folder; returns the SHA-256 of its weights.
pub fn save_merged(model: &Model, folder: &Path) -> Result<String> {
    let chat = &model.chat;
    let mut checkpoint = Checkpoint::open(&chat.path)?;
    if let Some(adapter) = &model.adapter {
        adapter.merge_into(chat.decoder.backend(), &mut checkpoint.tensors).map_err(anyhow::Error::msg)?;
    }
    let head =
        model.head.as_ref().map(|weight| Tensor { shape: vec![1, weight.len()], data: weight.clone() });
    let (files, ids) = chat.saved_text(head.is_some())?;
    save_hugging_face(
        folder,
        &checkpoint.config,
        &checkpoint.tensors,
        SaveType::F32,
        head.as_ref(),
        &files,
        &ids,
    )?;
    Ok(solon_data::files::sha256_file(&folder.join("model.safetensors"))?)
}

/// A fresh adapter on every matrix of the model.
pub fn fresh_adapter(model: &ChatModel, rank: usize, alpha: f32, draws: Draws) -> Adapter<Device> {
    let settings = LoraSettings::new(rank, alpha, Projection::ALL);
    Adapter::fresh(model.decoder.backend(), model.config(), settings, |name, index| {
        draws.item("adapter").item(name).uniform(index as u64) as f32
    })
}
