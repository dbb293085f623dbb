//! The prefix cache: prompts whose keys and values are cached, so that a new prompt with a shared prefix computes only
//! the rest.
//!
//! An entry is a prompt and its path: segments of the cache, and how much of each the prompt sees. A new prompt takes
//! the path of the entry with the longest shared prefix, and one new segment for the rest. Entries hold their segments,
//! and running requests hold their entries. An entry that no request uses stays for later prompts. When there is no
//! room, the least recently used one is dropped. There is no radix tree: there are usually hundreds of entries, and
//! comparing a prompt with all of them is cheap beside computing it.

use solon_model::{Backend, CachedRows};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// Whether shared prefixes are computed once. The results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Every prompt is computed completely: for comparison.
    Off,
    /// Cached prompts stay for later ones, up to this many tokens in the cache. Prompts in use are never dropped.
    UpTo(usize),
}

/// Room for 64 critiques (one chunk of a run) with about 250 tokens each, so that their revisions still find them. In
/// bf16 a token takes 23 KB of SmolLM2-135M's cache, so all take about 380 MB.
pub const KEPT: Sharing = Sharing::UpTo(16_384);
/// Only requests that run at the same time share prefixes. For scoring during training, where memory is bounded and a
/// prompt is seldom seen twice.
pub const IN_USE: Sharing = Sharing::UpTo(0);

/// How much of the budget a segment of this many tokens takes: keys are stored in panels of 16.
fn room(tokens: usize) -> usize {
    tokens.next_multiple_of(16)
}

/// A shorter shared prefix does not get its own segment.
pub(crate) const MIN_SHARED: usize = 16;

/// Counts of prompt tokens since the engine was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptTokens {
    /// Tokens that went through the model.
    pub computed: usize,
    /// Tokens that were in the cache.
    pub found: usize,
}

/// A path: segment numbers of this module, root first, each with the number of positions seen.
type Path = Vec<(u64, usize)>;

/// A prompt in use; the caller must return it with [`Prefixes::release`].
pub(crate) struct Prefix {
    entry: u64,
    path: Path,
}

struct Entry {
    tokens: Vec<u32>,
    path: Path,
    /// Number of requests that use it.
    users: usize,
    last_use: u64,
}

struct Segment {
    /// Its number in the cache, set when its first tokens are computed.
    cached: Option<usize>,
    len: usize,
    /// Number of positions that are computed, including those of the current pass.
    filled: usize,
    /// Number of entries that have it on their path.
    users: usize,
}

/// All entries and their segments.
pub(crate) struct Prefixes {
    sharing: Sharing,
    entries: BTreeMap<u64, Entry>,
    segments: BTreeMap<u64, Segment>,
    /// Entries whose own segment is not filled yet, in order of arrival. An entry comes after the entries whose
    /// segments it uses.
    pending: VecDeque<u64>,
    /// The [`room`] of all segments in the cache.
    held: usize,
    /// A counter of events. It numbers entries and segments, and dates their last use.
    clock: u64,
    pub tokens: PromptTokens,
}

impl Prefixes {
    pub fn new(sharing: Sharing) -> Self {
        Self {
            sharing,
            entries: BTreeMap::new(),
            segments: BTreeMap::new(),
            pending: VecDeque::new(),
            held: 0,
            clock: 0,
            tokens: PromptTokens::default(),
        }
    }

    /// Finds the cached part of a prompt, and queues the rest to be computed.
    pub fn attach(&mut self, tokens: &[u32]) -> Prefix {
        let now = self.tick();
        let (source, mut path) = self.longest(tokens);
        let found: usize = path.iter().map(|(_, seen)| seen).sum();
        self.tokens.found += found;
        if let Some(entry) = source.and_then(|id| self.entries.get_mut(&id)) {
            entry.last_use = now;
        }
        if let Some(entry) = source.filter(|_| found == tokens.len()) {
            self.entries.entry(entry).and_modify(|entry| entry.users += 1);
            return Prefix { entry, path };
        }
        if found < tokens.len() {
            let segment = Segment { cached: None, len: tokens.len() - found, filled: 0, users: 0 };
            self.segments.insert(now, segment);
            self.pending.push_back(now);
            path.push((now, tokens.len() - found));
        }
        for (segment, _) in &path {
            self.segments.entry(*segment).and_modify(|segment| segment.users += 1);
        }
        let entry = Entry { tokens: tokens.to_vec(), path: path.clone(), users: 1, last_use: now };
        self.entries.insert(now, entry);
        Prefix { entry: now, path }
    }

    /// The entry with the longest shared prefix, and its path up to the end of that prefix.
    fn longest(&self, tokens: &[u32]) -> (Option<u64>, Path) {
        let alike = |entry: &Entry| entry.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // Among equals, prefer an entry that ends there, because nothing of it is cut; then the first. So the entry
        // that holds the prefix all prompts share stays in use.
        let ranked = |(id, entry): (&u64, &Entry)| {
            let alike = alike(entry);
            (alike, alike == entry.tokens.len(), Reverse(*id))
        };
        let longest = self.entries.iter().map(ranked).max();
        let shared = longest.filter(|(alike, whole, _)| {
            // An identical prompt is shared even if it is short.
            let again = *whole && *alike == tokens.len();
            self.sharing != Sharing::Off && (again || *alike >= MIN_SHARED)
        });
        let Some((mut left, _, Reverse(id))) = shared else {
            return (None, Path::new());
        };
        let mut path = Path::new();
        for (segment, seen) in &self.entries[&id].path {
            let mut taken = left.min(*seen);
            if taken < self.segments[segment].len {
                // If the cache stores positions in pairs, an unseen partner is multiplied by zero. That changes no bit,
                // except that zero times infinity is not zero. So no pair is cut.
                taken &= !1;
            }
            if taken > 0 {
                path.push((*segment, taken));
            }
            if taken < *seen {
                break;
            }
            left -= taken;
        }
        (Some(id), path)
    }

    /// Adds queued tokens to a pass, at most `most`, in the order they were queued.
    pub fn push_pending<B: Backend>(
        &mut self,
        backend: &B,
        cache: &mut B::Cache,
        most: usize,
        rows: &mut CachedRows,
    ) {
        let mut left = most;
        while left > 0
            && let Some(id) = self.pending.front().copied()
        {
            let (own, len) =
                *self.entries[&id].path.last().expect("what is pending has a segment of its own");
            if self.segments[&own].cached.is_none() {
                self.make_room(backend, cache, room(len));
                self.held += room(len);
                let cached = backend.add_segment(cache, len);
                self.segments.entry(own).and_modify(|segment| segment.cached = Some(cached));
            }
            let entry = &self.entries[&id];
            let ancestors = self.cached(&entry.path[..entry.path.len() - 1]);
            let segment = self.segments.get_mut(&own).expect("an entry's segments are held");
            let from = entry.tokens.len() - len + segment.filled;
            let count = left.min(len - segment.filled);
            let cached = segment.cached.expect("it was just added");
            rows.push(&entry.tokens[from..from + count], from, cached, ancestors);
            segment.filled += count;
            self.tokens.computed += count;
            left -= count;
            if segment.filled == len {
                self.pending.pop_front();
            }
        }
    }

    /// The path of a prompt in the cache if it is computed completely, counting the current pass.
    pub fn ready(&self, prefix: &Prefix) -> Option<Vec<(usize, usize)>> {
        let filled = prefix.path.iter().all(|(segment, seen)| self.segments[segment].filled >= *seen);
        filled.then(|| self.cached(&prefix.path))
    }

    fn cached(&self, path: &[(u64, usize)]) -> Vec<(usize, usize)> {
        path.iter()
            .map(|(segment, seen)| {
                let cached = self.segments[segment].cached;
                (cached.expect("what comes before is computed before"), *seen)
            })
            .collect()
    }

    /// Ends a request's use of its prompt.
    pub fn release<B: Backend>(&mut self, backend: &B, cache: &mut B::Cache, prefix: &Prefix) {
        let now = self.tick();
        let Some(entry) = self.entries.get_mut(&prefix.entry) else { return };
        entry.users -= 1;
        entry.last_use = now;
        let (idle, tokens) = (entry.users == 0, entry.tokens.len());
        // A prompt that no other could share is not kept.
        if idle && (self.sharing == Sharing::Off || tokens < MIN_SHARED) {
            self.remove(backend, cache, prefix.entry);
        }
        self.make_room(backend, cache, 0);
    }

    /// Drops entries that no request uses, the least recently used first, until there is room for this many more
    /// tokens.
    fn make_room<B: Backend>(&mut self, backend: &B, cache: &mut B::Cache, tokens: usize) {
        let Sharing::UpTo(budget) = self.sharing else { return };
        while self.held + tokens > budget {
            let idle = self.entries.iter().filter(|(_, entry)| entry.users == 0);
            let Some((_, id)) = idle.map(|(id, entry)| (entry.last_use, *id)).min() else { break };
            self.remove(backend, cache, id);
        }
    }

    fn remove<B: Backend>(&mut self, backend: &B, cache: &mut B::Cache, id: u64) {
        let Some(entry) = self.entries.remove(&id) else { return };
        for (id, _) in entry.path {
            let segment = self.segments.get_mut(&id).expect("an entry's segments are held");
            segment.users -= 1;
            if segment.users > 0 {
                continue;
            }
            if let Some(cached) = segment.cached {
                backend.remove_segment(cache, cached);
                self.held -= room(segment.len);
            }
            self.segments.remove(&id);
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_draws::Draws;
    use solon_model::backend::{Heads, Reference};

    const BACKEND: Reference = Reference;

    /// A prefix cache beside a cache that holds tokens in place of their keys.
    struct Shadow {
        prefixes: Prefixes,
        cache: <Reference as Backend>::Cache,
        tokens: BTreeMap<usize, Vec<u32>>,
    }

    impl Shadow {
        fn new(sharing: Sharing) -> Self {
            let cache = BACKEND.new_cache(1, Heads { queries: 1, keys: 1, dim: 2 });
            Self { prefixes: Prefixes::new(sharing), cache, tokens: BTreeMap::new() }
        }

        fn read(&self, path: &[(usize, usize)]) -> Vec<u32> {
            path.iter().flat_map(|(segment, seen)| self.tokens[segment][..*seen].to_vec()).collect()
        }

        /// One pass of up to `most` queued tokens.
        fn pass(&mut self, most: usize) -> usize {
            let mut rows = CachedRows::default();
            self.prefixes.push_pending(&BACKEND, &mut self.cache, most, &mut rows);
            let mut at = 0;
            for run in &rows.runs {
                let from = rows.positions[at] as usize;
                let before: usize = run.ancestors.iter().map(|(_, seen)| seen).sum();
                let segment = self.tokens.entry(run.segment).or_default();
                // The number may have belonged to a segment that was dropped.
                if from == before {
                    segment.clear();
                }
                segment.extend_from_slice(&rows.tokens[at..at + run.rows]);
                assert_eq!(before + segment.len(), from + run.rows, "positions go on along the path");
                assert_eq!(self.read(&run.ancestors).len(), before, "an ancestor's rows come first");
                at += run.rows;
            }
            rows.tokens.len()
        }

        fn attach(&mut self, prompt: &[u32]) -> Prefix {
            self.prefixes.attach(prompt)
        }

        fn release(&mut self, prefix: &Prefix) {
            self.prefixes.release(&BACKEND, &mut self.cache, prefix);
        }

        /// Computes a prompt and ends its use; returns how much of it was found.
        fn ask(&mut self, prompt: &[u32]) -> usize {
            let before = self.prefixes.tokens.found;
            let prefix = self.attach(prompt);
            while self.pass(usize::MAX) > 0 {}
            let path = self.prefixes.ready(&prefix).expect("all is computed");
            assert_eq!(self.read(&path), prompt);
            self.release(&prefix);
            self.prefixes.tokens.found - before
        }
    }

    fn numbers(from: u32, count: u32) -> Vec<u32> {
        (from..from + count).collect()
    }

    #[test]
    fn the_longest_common_beginning_is_found_and_no_pair_is_cut() {
        let mut shadow = Shadow::new(Sharing::UpTo(1000));
        let (stem, own) = (numbers(0, 40), numbers(500, 9));
        assert_eq!(shadow.ask(&stem), 0);
        assert_eq!(shadow.ask(&[&stem[..15], &own].concat()), 0, "too short to share");
        assert_eq!(shadow.ask(&[&stem[..31], &own].concat()), 30);
        assert_eq!(shadow.ask(&[&stem[..31], &own, &own].concat()), 40);
        assert_eq!(shadow.ask(&stem[..39]), 38);
        assert_eq!(shadow.ask(&stem[..39]), 39, "its own entry, though an older one goes on");
        assert_eq!(shadow.ask(&stem), 40);
        assert_eq!(shadow.ask(&stem[..20]), 20);
        assert_eq!(Shadow::new(Sharing::Off).ask(&stem), 0);
    }

    #[test]
    fn the_longest_unused_goes_first_and_what_runs_never() {
        let mut shadow = Shadow::new(Sharing::UpTo(100));
        let prompt = |i: u32| numbers(1000 * i, 40);
        shadow.ask(&prompt(1));
        shadow.ask(&prompt(2));
        assert_eq!(shadow.ask(&prompt(1)), 40);
        shadow.ask(&prompt(3));
        assert_eq!(shadow.ask(&prompt(1)), 40, "it was used after 2 was");
        assert_eq!(shadow.ask(&prompt(2)), 0);
        let running: Vec<Prefix> = (1..6).map(|i| shadow.attach(&prompt(i))).collect();
        while shadow.pass(7) > 0 {}
        assert_eq!(shadow.prefixes.held, 5 * room(40));
        running.iter().for_each(|prefix| shadow.release(prefix));
        assert_eq!(shadow.prefixes.held, 2 * room(40));
    }

    /// Prompts arrive, are computed and leave in any order. Each sees exactly its own tokens, and the counts match the
    /// stored segments.
    #[test]
    fn whatever_comes_and_goes_paths_and_counts_are_right() {
        for (round, budget) in [0, 60, 200, 100_000].into_iter().enumerate() {
            let draws = Draws::new(5, "prefixes").index(round as u64);
            let mut shadow = Shadow::new(Sharing::UpTo(budget));
            let mut running: Vec<(Vec<u32>, Prefix)> = Vec::new();
            for step in 0..800 {
                let draws = draws.index(step);
                match draws.below(0, 4) {
                    0 | 1 if running.len() < 6 => {
                        let mut prompt = numbers(1000 * draws.below(1, 2) as u32, draws.below(2, 70) as u32);
                        prompt.extend(numbers(100 * draws.below(3, 5) as u32, draws.below(4, 30) as u32));
                        running.push((prompt.clone(), shadow.attach(&prompt)));
                    }
                    2 => {
                        shadow.pass(1 + draws.below(1, 40));
                    }
                    _ => {
                        let ready =
                            |(_, prefix): &(Vec<u32>, Prefix)| shadow.prefixes.ready(prefix).is_some();
                        if let Some(at) = running.iter().position(ready) {
                            shadow.release(&running.remove(at).1);
                        }
                    }
                }
                for (prompt, prefix) in &running {
                    if let Some(path) = shadow.prefixes.ready(prefix) {
                        assert_eq!(shadow.read(&path), *prompt);
                    }
                }
                let Prefixes { entries, segments, held, .. } = &shadow.prefixes;
                let cached: usize =
                    segments.values().filter(|s| s.cached.is_some()).map(|s| room(s.len)).sum();
                assert_eq!(*held, cached);
                for (id, segment) in segments {
                    let users = entries.values().filter(|e| e.path.iter().any(|(s, _)| s == id)).count();
                    assert_eq!(segment.users, users);
                    assert!(users > 0, "nobody holds segment {id}");
                }
                assert!(*held <= budget || entries.values().all(|entry| entry.users > 0));
            }
            running.iter().for_each(|(_, prefix)| {
                while shadow.prefixes.ready(prefix).is_none() {
                    shadow.pass(100);
                }
            });
            running.iter().for_each(|(_, prefix)| shadow.release(prefix));
            assert!(shadow.prefixes.held <= budget);
            assert!(budget > 0 || shadow.prefixes.segments.is_empty());
        }
    }
}
