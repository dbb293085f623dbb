//! The repository's prompts: ids, kinds, pair links, and that no evaluation prompt is near one that training sees.
//!
//! Contract: reads every `prompts/**/*.jsonl`, and `constitutions/*.toml` and `data/*.jsonl`, which training sees too.
//! Files named with the word `eval`, `dev` or `test` are for evaluation, the others for training. Two prompts are near
//! where their 3-grams of words have a Jaccard index above 0.5, or where they are equal without stop words. Each problem is
//! one line that names both ids and files.

use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Prompts whose 3-grams have a larger Jaccard index are near.
const NEAR: f64 = 0.5;

/// Words that do not say what a prompt is about.
const STOP: &str = "a an the is are am was be do does did can could would will should i me my you your we our it its this that \
                    to of for in on at by with from and or so please tell give show explain help how what whats which who \
                    why when where there some any";

#[derive(Debug, Clone, Deserialize)]
struct Row {
    id: String,
    #[serde(alias = "request")]
    prompt: String,
    kind: Option<String>,
    pair: Option<String>,
}

/// What a file's prompts are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Training,
    Evaluation,
    /// Worked examples of a constitution, demonstrations and preferences: training sees them, and they have no kind of
    /// ours and no pair.
    Examples,
}

struct File {
    name: String,
    used: Use,
    rows: Vec<Row>,
}

/// A row with its words, in its file.
struct Entry<'a> {
    file: &'a File,
    row: &'a Row,
    words: Vec<String>,
    grams: HashSet<[String; 3]>,
    content: Vec<String>,
}

impl<'a> Entry<'a> {
    fn new(file: &'a File, row: &'a Row) -> Self {
        let words = words(&row.prompt);
        let stop: HashSet<&str> = STOP.split_whitespace().collect();
        let content = words.iter().filter(|word| !stop.contains(word.as_str())).cloned().collect();
        let grams = words.windows(3).map(|three| [0, 1, 2].map(|place| three[place].clone())).collect();
        Entry { file, row, words, grams, content }
    }

    fn shown(&self) -> String {
        format!("{:?} in {} ({:?})", self.row.id, self.file.name, self.row.prompt)
    }

    /// Why two prompts are near, if they are.
    fn near(&self, other: &Entry<'_>, common: usize) -> Option<String> {
        let all = self.grams.len() + other.grams.len() - common;
        let jaccard = if all == 0 { 0.0 } else { common as f64 / all as f64 };
        if self.words == other.words {
            Some("are the same".to_owned())
        } else if jaccard > NEAR {
            Some(format!("are near (3-gram Jaccard {jaccard:.2})"))
        } else if !self.content.is_empty() && self.content == other.content {
            Some("are the same without stop words".to_owned())
        } else {
            None
        }
    }

    fn is_paired_with(&self, other: &Entry<'_>) -> bool {
        self.row.pair.as_ref() == Some(&other.row.id) && other.row.pair.as_ref() == Some(&self.row.id)
    }

    /// Whether it is a problem that two prompts are near, or for two of one training file, the same.
    fn forbids(&self, other: &Entry<'_>) -> bool {
        use Use::{Evaluation, Examples, Training};
        let same_file = std::ptr::eq(self.file, other.file);
        match (self.file.used, other.file.used) {
            (Examples, Examples | Training) | (Training, Examples) => false,
            (Training, Training) if same_file => self.words == other.words,
            (Training, Training) | (Evaluation, Evaluation) => !self.is_paired_with(other),
            // A pair does not excuse that training sees what is evaluated.
            (Evaluation, Training | Examples) | (Training | Examples, Evaluation) => true,
        }
    }
}

/// Lower-case words without punctuation.
fn words(text: &str) -> Vec<String> {
    let kept: String = text
        .to_lowercase()
        .chars()
        .filter(|letter| !['\'', '’'].contains(letter))
        .map(|letter| if letter.is_alphanumeric() { letter } else { ' ' })
        .collect();
    kept.split_whitespace().map(str::to_owned).collect()
}

/// What the file's name says that it is for.
fn used(name: &str) -> Use {
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let evaluates = |word: &str| ["eval", "dev", "test"].contains(&word);
    if stem.split(|letter: char| !letter.is_alphanumeric()).any(evaluates) {
        Use::Evaluation
    } else {
        Use::Training
    }
}

/// Everything that is wrong with the prompts, a line each.
fn problems(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let entries: Vec<Entry<'_>> =
        files.iter().flat_map(|file| file.rows.iter().map(move |row| Entry::new(file, row))).collect();
    let known = solon_eval::benchmarks::kinds();
    let mut by_id: HashMap<&str, &Entry<'_>> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.file.used != Use::Examples) {
        if let Some(first) = by_id.insert(&entry.row.id, entry) {
            found.push(format!("the same id: {} and {}", first.shown(), entry.shown()));
        }
        match &entry.row.kind {
            Some(kind) if known.contains(&kind.as_str()) => {}
            kind => {
                found.push(format!("unknown kind {kind:?}: {} (known: {})", entry.shown(), known.join(", ")))
            }
        }
    }
    for entry in entries.iter().filter(|entry| entry.file.used != Use::Examples) {
        let Some(pair) = &entry.row.pair else { continue };
        match by_id.get(pair.as_str()) {
            None => found.push(format!("pair {pair:?} is nowhere: {}", entry.shown())),
            Some(other) if !other.is_paired_with(entry) || other.row.id == entry.row.id => {
                found.push(format!("pair is not symmetric: {} and {}", entry.shown(), other.shown()));
            }
            Some(_) => {}
        }
    }
    found.extend(near(&entries));
    found
}

/// The pairs of prompts that are nearer than they may be.
fn near(entries: &[Entry<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    let mut with_gram: HashMap<&[String; 3], Vec<usize>> = HashMap::new();
    let mut with_content: HashMap<&[String], Vec<usize>> = HashMap::new();
    for (place, entry) in entries.iter().enumerate() {
        // How many 3-grams each earlier prompt has in common with this one; in order, so that the report is.
        let mut common: BTreeMap<usize, usize> = BTreeMap::new();
        for gram in &entry.grams {
            for earlier in with_gram.get(gram).into_iter().flatten() {
                *common.entry(*earlier).or_default() += 1;
            }
            with_gram.entry(gram).or_default().push(place);
        }
        // Prompts of stop words alone share no 3-gram and no content but may be the same.
        let key = if entry.content.is_empty() { &entry.words } else { &entry.content };
        let same = with_content.entry(key).or_default();
        for earlier in same.iter() {
            common.entry(*earlier).or_default();
        }
        same.push(place);
        for (earlier, common) in common {
            let earlier = &entries[earlier];
            if let Some(why) = entry.near(earlier, common)
                && entry.forbids(earlier)
            {
                found.push(format!("{} and {} {why}", earlier.shown(), entry.shown()));
            }
        }
    }
    found
}

/// The files below a folder with this extension, sorted.
fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read_prompts(name: String, text: &str) -> File {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(place, line): (usize, &str)| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}:{}: {error}", place + 1))
    };
    let rows = lines.map(row).collect();
    File { used: used(&name), name, rows }
}

fn read_examples(name: String, text: &str) -> File {
    #[derive(Deserialize)]
    struct Constitution {
        #[serde(default)]
        example: Vec<Row>,
    }
    let constitution: Constitution = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    File { used: Use::Examples, name, rows: constitution.example }
}

/// What training sees in a file of demonstrations or preferences: the user's first message.
fn read_data(name: String, text: &str) -> File {
    let row = |(place, line): (usize, &str)| {
        let row: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}:{}: {error}", place + 1));
        let asked = row["messages"].as_array().and_then(|all| all.iter().find(|one| one["role"] == "user"));
        let prompt = row["prompt"].as_str().or(asked.and_then(|message| message["content"].as_str()));
        let prompt = prompt.unwrap_or_else(|| panic!("{name}:{}: no prompt", place + 1)).to_owned();
        Row { id: row["id"].as_str().unwrap_or_default().to_owned(), prompt, kind: None, pair: None }
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.map(row).collect();
    File { used: Use::Examples, name, rows }
}

#[test]
fn the_repositorys_prompts_are_apart() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: PathBuf, as_file: fn(String, &str) -> File| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        as_file(name, &text)
    };
    let prompts = files_below(&root.join("prompts"), "jsonl");
    let constitutions = files_below(&root.join("constitutions"), "toml");
    let mut files: Vec<File> = prompts.into_iter().map(|path| read(path, read_prompts)).collect();
    assert!(
        files.iter().any(|file| file.used == Use::Evaluation && !file.rows.is_empty()),
        "no evaluation prompts"
    );
    assert!(
        files.iter().any(|file| file.used == Use::Training && !file.rows.is_empty()),
        "no training prompts"
    );
    let data = files_below(&root.join("data"), "jsonl");
    files.extend(data.into_iter().map(|path| read(path, read_data)));
    files.extend(constitutions.into_iter().map(|path| read(path, read_examples)));
    assert!(
        files.iter().any(|file| file.used == Use::Examples && !file.rows.is_empty()),
        "no worked examples"
    );
    let found = problems(&files);
    assert!(found.is_empty(), "{} problems:\n{}", found.len(), found.join("\n"));
}

/// A file of prompts, one `id|kind|pair|prompt` a line.
fn file(name: &str, lines: &[&str]) -> File {
    let row = |line: &&str| {
        let [id, kind, pair, prompt]: [&str; 4] = line.splitn(4, '|').collect::<Vec<_>>().try_into().unwrap();
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Row { id: id.to_owned(), prompt: prompt.to_owned(), kind: some(kind), pair: some(pair) }
    };
    File { name: name.to_owned(), used: used(name), rows: lines.iter().map(row).collect() }
}

/// The only problem of these files: it holds all parts.
fn only_problem(files: &[File], parts: &[&str]) {
    let found = problems(files);
    assert_eq!(found.len(), 1, "{found:#?}");
    for part in parts {
        assert!(found[0].contains(part), "{} lacks {part:?}", found[0]);
    }
}

const CAKE: &str = "How do I bake a cake for my sister's birthday?";

#[test]
fn ids_kinds_and_pairs_are_checked() {
    let other = |line: &str| file("prompts/more/b.jsonl", &[line]);
    only_problem(
        &[file("prompts/a.jsonl", &["1|harmless||Bake bread."]), other("1|harmful||Rob a bank.")],
        &["the same id", "prompts/a.jsonl", "prompts/more/b.jsonl"],
    );
    only_problem(&[other("1|harmles||Bake bread.")], &["unknown kind", "\"harmles\"", "\"1\"", "b.jsonl"]);
    only_problem(&[other("1|||Bake bread.")], &["unknown kind None"]);
    only_problem(&[other("1|harmless|2|Bake bread.")], &["pair \"2\" is nowhere", "\"1\""]);
    only_problem(&[other("1|harmless|1|Bake bread.")], &["not symmetric"]);
    only_problem(
        &[file("a.jsonl", &["1|harmless|2|Bake bread."]), other("2|harmful||Rob a bank.")],
        &["not symmetric", "\"1\"", "a.jsonl", "\"2\"", "b.jsonl"],
    );
    for kind in ["harmful", "harmless", "sounds-harmful", "unanswerable"] {
        assert!(problems(&[other(&format!("1|{kind}||Bake bread."))]).is_empty(), "{kind}");
    }
}

#[test]
fn near_prompts_are_named() {
    let first = |name: &str| file(name, &[&format!("1|harmless||{CAKE}")]);
    let near = "2|harmless||How do I bake a cake for my brother's birthday?";
    // Without stop words both are "bake cake sisters birthday".
    let reworded = "2|harmless||Please tell me how to bake the cake for a sister's birthday.";
    for (a, b) in [
        ("eval.jsonl", "train.jsonl"),
        ("train.jsonl", "dev.jsonl"),
        ("a.jsonl", "b.jsonl"),
        ("dev.jsonl", "test.jsonl"),
    ] {
        for line in [near, reworded] {
            only_problem(&[first(a), file(b, &[line])], &["\"1\"", a, "\"2\"", b]);
        }
        let apart = "2|harmless||How do I bake bread without an oven?";
        assert!(problems(&[first(a), file(b, &[apart])]).is_empty());
    }
    let both = |line: &str| [format!("1|harmless||{CAKE}"), line.to_owned()];
    let one_file = |name: &str, line: &str| {
        let lines = both(line);
        [file(name, &lines.each_ref().map(String::as_str))]
    };
    only_problem(&one_file("eval.jsonl", near), &["\"1\"", "\"2\"", "are near"]);
    assert!(problems(&one_file("train.jsonl", near)).is_empty());
    let same = "2|harmless||how do i bake a cake for my sisters birthday";
    only_problem(&one_file("train.jsonl", same), &["\"1\"", "\"2\"", "are the same"]);
}

#[test]
fn a_pair_may_be_near_but_not_across_training_and_evaluation() {
    let one = format!("1|harmless|2|{CAKE}");
    let two = "2|harmful|1|How do I bake a cake for my sister's funeral?";
    assert!(problems(&[file("eval.jsonl", &[&one, two])]).is_empty());
    assert!(problems(&[file("a.jsonl", &[&one]), file("b.jsonl", &[two])]).is_empty());
    only_problem(
        &[file("test.jsonl", &[&one]), file("b.jsonl", &[two])],
        &["test.jsonl", "b.jsonl", "are near"],
    );
}

#[test]
fn worked_examples_are_kept_out_of_evaluation() {
    let example = format!("[[example]]\nid = \"cake\"\nkind = \"harmless\"\nrequest = \"{CAKE}\"\n");
    let examples = || read_examples("constitutions/c.toml".to_owned(), &example);
    let row = format!("1|harmless||{CAKE}");
    only_problem(
        &[file("eval.jsonl", &[&row]), examples()],
        &["\"1\"", "eval.jsonl", "\"cake\"", "constitutions/c.toml"],
    );
    assert!(problems(&[file("train.jsonl", &[&row]), examples()]).is_empty());
}

#[test]
fn a_files_name_says_what_it_is_for() {
    for (name, expected) in [
        ("prompts/eval.jsonl", Use::Evaluation),
        ("prompts/dev-more.jsonl", Use::Evaluation),
        ("prompts/x/test_2.jsonl", Use::Evaluation),
        ("prompts/red-team.jsonl", Use::Training),
        ("prompts/eval/helpful.jsonl", Use::Training),
        ("prompts/contest.jsonl", Use::Training),
    ] {
        assert_eq!(used(name), expected, "{name}");
    }
}
