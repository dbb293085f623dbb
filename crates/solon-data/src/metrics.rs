//! `metrics.jsonl`: one JSON object per line, `{"stage": …, "step": …, …}`, appended during training.
//!
//! Contract: a line is written by one system call, so a kill leaves whole lines and at most one torn last line, which
//! [`MetricsLog::open`] cuts off. Resuming from a checkpoint drops the lines after it ([`MetricsLog::drop_after`]), so
//! the file reads as if the run had never stopped. Lines are not synced one by one: the ledger is the durable record,
//! and this file is for plots. NaN and infinities become `null`, because JSON has neither.
//!
//! One process writes: hold the run's [`crate::files::FolderLock`].

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::DataError;
use crate::files::write_atomically;
use crate::jsonl::{read_jsonl, read_jsonl_numbered};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// The stage that wrote it.
    pub stage: String,
    /// The optimizer step, or another counter of the stage.
    pub step: u64,
    /// The metrics: loss, learning rate, tokens per second and so on.
    #[serde(flatten)]
    pub metrics: Map<String, Value>,
}

/// The open file; lines are appended.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens or creates the file and cuts off a torn last line.
    ///
    /// # Errors
    /// [`DataError::Io`] when the system refuses.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = append_to(path)?;
        let log = Self { path: path.to_path_buf(), file };
        log.cut_torn_line()?;
        Ok(log)
    }

    /// Writes one line. On an error (disk full) the file is cut back to where it was.
    ///
    /// `metrics` must not contain the keys `stage` and `step`.
    ///
    /// # Errors
    /// [`DataError::Io`] when the system refuses; [`DataError::Record`] for a reserved key.
    pub fn append(&mut self, stage: &str, step: u64, metrics: &Map<String, Value>) -> Result<(), DataError> {
        if let Some(key) = ["stage", "step"].into_iter().find(|key| metrics.contains_key(*key)) {
            return Err(DataError::Record {
                path: self.path.clone(),
                id: format!("{stage} step {step}"),
                message: format!("`{key}` is a reserved key; give the metric another name"),
            });
        }
        #[derive(Serialize)]
        struct Line<'a> {
            stage: &'a str,
            step: u64,
            #[serde(flatten)]
            metrics: &'a Map<String, Value>,
        }
        let write = DataError::io("write", &self.path);
        let mut bytes = match serde_json::to_vec(&Line { stage, step, metrics }) {
            Ok(bytes) => bytes,
            Err(error) => return Err(write(error.into())),
        };
        bytes.push(b'\n');
        let before = self.length()?;
        self.file.write_all(&bytes).map_err(|error| {
            // Best effort: if this fails, the next opening cuts the torn line.
            let _ = self.file.set_len(before);
            write(error)
        })
    }

    /// Drops the lines of `stage` after `step` and keeps all others unchanged; returns the number of dropped lines.
    ///
    /// # Errors
    /// [`DataError::Io`] if the system refuses, [`DataError::Line`] for a line that is not a metrics line; then the
    /// file is unchanged.
    pub fn drop_after(&mut self, stage: &str, step: u64) -> Result<usize, DataError> {
        self.retain(|line| line.stage != stage || line.step <= step)
    }

    /// Drops every line of `stage`, for a stage that is restarted; returns the number of dropped lines.
    ///
    /// # Errors
    /// As [`Self::drop_after`].
    pub fn drop_stage(&mut self, stage: &str) -> Result<usize, DataError> {
        self.retain(|line| line.stage != stage)
    }

    /// Waits until all lines are on disk.
    ///
    /// # Errors
    /// [`DataError::Io`] when the system refuses.
    pub fn sync(&self) -> Result<(), DataError> {
        self.file.sync_data().map_err(DataError::io("sync", &self.path))
    }

    fn retain(&mut self, keep: impl Fn(&MetricsLine) -> bool) -> Result<usize, DataError> {
        let lines = read_jsonl_numbered::<MetricsLine>(&self.path)?;
        let dropped: std::collections::HashSet<usize> =
            lines.iter().filter(|line| !keep(&line.value)).map(|line| line.line).collect();
        if dropped.is_empty() {
            return Ok(0);
        }
        let bytes = std::fs::read(&self.path).map_err(DataError::io("read", &self.path))?;
        write_atomically(&self.path, |out| {
            for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
                if !dropped.contains(&(index + 1)) {
                    out.write_all(line)?;
                }
            }
            Ok(())
        })?;
        // The old handle refers to the replaced file; lines written to it would be lost.
        self.file = append_to(&self.path)?;
        Ok(dropped.len())
    }

    fn length(&self) -> Result<u64, DataError> {
        Ok(self.file.metadata().map_err(DataError::io("read", &self.path))?.len())
    }

    /// Only the last line can be torn. It is searched from the end, so that opening a long log is fast.
    fn cut_torn_line(&self) -> Result<(), DataError> {
        let length = self.length()?;
        let mut reader = File::open(&self.path).map_err(DataError::io("open", &self.path))?;
        let (mut end, mut block) = (length, vec![0; 64 << 10]);
        while end > 0 {
            let start = end.saturating_sub(block.len() as u64);
            let part = &mut block[..(end - start) as usize];
            reader
                .seek(SeekFrom::Start(start))
                .and_then(|_| reader.read_exact(part))
                .map_err(DataError::io("read", &self.path))?;
            if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
                end = start + newline as u64 + 1;
                break;
            }
            end = start;
        }
        if end < length {
            self.file.set_len(end).map_err(DataError::io("cut the torn last line of", &self.path))?;
        }
        Ok(())
    }
}

/// Reads all lines.
///
/// # Errors
/// Those of [`crate::jsonl::read_jsonl`]; also for a torn last line, while another process is writing it.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsLine>, DataError> {
    read_jsonl(path)
}

fn append_to(path: &Path) -> Result<File, DataError> {
    OpenOptions::new().create(true).append(true).open(path).map_err(DataError::io("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn metrics(loss: f64) -> Map<String, Value> {
        json!({ "loss": loss }).as_object().unwrap().clone()
    }

    fn with_log(check: impl FnOnce(&Path, MetricsLog)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path).unwrap();
        for step in 1..=3 {
            log.append("sft", step, &metrics(1.0 / step as f64)).unwrap();
        }
        check(&path, log);
    }

    #[test]
    fn lines_are_whole_and_read_back() {
        with_log(|path, log| {
            assert!(
                fs::read_to_string(path)
                    .unwrap()
                    .starts_with("{\"stage\":\"sft\",\"step\":1,\"loss\":1.0}\n")
            );
            log.sync().unwrap();
            let lines = read_metrics(path).unwrap();
            assert_eq!(lines[2], MetricsLine { stage: "sft".into(), step: 3, metrics: metrics(1.0 / 3.0) });
        });
    }

    #[test]
    fn a_line_torn_at_any_byte_is_cut_and_the_rest_kept() {
        with_log(|path, log| {
            drop(log);
            let whole = fs::read(path).unwrap();
            for length in 0..=whole.len() {
                fs::write(path, &whole[..length]).unwrap();
                let mut log = MetricsLog::open(path).unwrap();
                let kept = whole[..length].iter().filter(|byte| **byte == b'\n').count();
                assert_eq!(read_metrics(path).unwrap().len(), kept);
                log.append("sft", 9, &metrics(0.0)).unwrap();
                assert_eq!(read_metrics(path).unwrap().last().unwrap().step, 9);
            }
        });
    }

    #[test]
    fn a_torn_line_longer_than_a_block_is_cut() {
        with_log(|path, log| {
            drop(log);
            let whole = fs::read(path).unwrap();
            fs::write(path, [whole.as_slice(), &vec![b'x'; 200 << 10]].concat()).unwrap();
            MetricsLog::open(path).unwrap();
            assert_eq!(fs::read(path).unwrap(), whole);
        });
    }

    #[test]
    fn resuming_drops_a_stage_s_later_lines_only_and_goes_on_in_the_new_file() {
        with_log(|path, mut log| {
            log.append("dpo", 7, &metrics(0.5)).unwrap();
            let before = fs::read_to_string(path).unwrap();
            assert_eq!(log.drop_after("sft", 1).unwrap(), 2);
            assert_eq!(log.drop_after("sft", 1).unwrap(), 0);
            log.append("sft", 2, &metrics(0.5)).unwrap();
            let after = fs::read_to_string(path).unwrap();
            let lines: Vec<&str> = before.lines().collect();
            assert!(after.starts_with(&format!("{}\n{}\n", lines[0], lines[3])), "{after}");
            assert_eq!(read_metrics(path).unwrap().len(), 3);
            assert_eq!(log.drop_stage("sft").unwrap(), 2);
            assert_eq!(read_metrics(path).unwrap()[0].stage, "dpo");
        });
    }

    #[test]
    fn a_damaged_file_is_named_and_left_alone() {
        with_log(|path, mut log| {
            fs::write(path, "{\"stage\":\"sft\",\"step\":1}\nnot json\n").unwrap();
            let error = log.drop_after("sft", 0).unwrap_err().to_string();
            assert!(error.contains("metrics.jsonl:2: "), "{error}");
            assert!(fs::read_to_string(path).unwrap().ends_with("not json\n"));
        });
    }

    #[test]
    fn reserved_keys_are_refused_and_nan_is_null() {
        with_log(|path, mut log| {
            let error = log.append("sft", 4, json!({"step": 4}).as_object().unwrap()).unwrap_err();
            assert!(error.to_string().contains("`step` is a reserved key"), "{error}");
            log.append("sft", 4, &metrics(f64::NAN)).unwrap();
            assert_eq!(read_metrics(path).unwrap()[3].metrics["loss"], Value::Null);
        });
    }
}
