//! A pool of memory for large arrays. An array goes back to the pool when it is dropped, and begins at a cache line.
//!
//! A training step needs the same arrays as the step before. Asking the system for them each time would cost more than many
//! kernels do: pages are cleared, mapped and unmapped, and every unmapping interrupts the other threads. With the pool, the
//! system is asked for nothing from the second step on. Arrays are cut from slabs. The system may back a slab with huge
//! pages, from which weights are read almost twice as fast. Free neighbours are joined, so batches of many sizes take little
//! more memory than the largest of them.

use crate::parallel::for_chunks;
use bytemuck::Pod;
use memmap2::{MmapMut, MmapRaw};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Mutex;

/// Arrays below this many bytes are plain vectors; others are given multiples of it.
const SMALL: usize = 4096;
/// Bytes of a slab, where an array does not need more.
const SLAB: usize = 64 << 20;

/// An array of `T` from the pool.
pub struct Block<T: Pod> {
    memory: Memory<T>,
    len: usize,
}

enum Memory<T> {
    Small(Vec<T>),
    Large(Piece),
}

impl<T: Pod> Block<T> {
    /// An array with whatever values the memory held before. Debug builds set all bits (NaN in f32), so that a test fails if
    /// they are read.
    ///
    /// # Panics
    /// If the system gives no more memory.
    pub fn uninit(len: usize) -> Self {
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= isize::MAX as usize / 2);
        let bytes = bytes.expect("an array is smaller than the address space");
        // Under a sanitizer (`.ci/sanitize`) an array is allocated by itself, so that reading past its end is seen.
        let mut block = match bytes < SMALL || cfg!(sanitizer) {
            true => Self { memory: Memory::Small(vec![T::zeroed(); len]), len },
            false => Self { memory: Memory::Large(store().take(bytes)), len },
        };
        if cfg!(debug_assertions) {
            bytemuck::cast_slice_mut::<T, u8>(&mut block).fill(0xff);
        }
        block
    }

    /// An array of zeros.
    pub fn zeros(len: usize) -> Self
    where
        T: Send,
    {
        let mut block = Self::uninit(len);
        // On all threads: a new page is mapped when it is first touched, which takes longer than filling it.
        for_chunks(&mut block, (SLAB / 128).div_ceil(size_of::<T>()), |_, run| run.fill(T::zeroed()));
        block
    }
}

impl<T: Pod> Deref for Block<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Small(values) => values,
            // SAFETY: the piece is mapped for as long as it is out of the store, has room for `len` values (`uninit` asked
            // for them), begins at a multiple of 64 bytes, and any bits are a value of a `Pod` type.
            Memory::Large(piece) => unsafe {
                debug_assert!(self.len * size_of::<T>() <= piece.bytes, "an array ends inside its piece");
                std::slice::from_raw_parts(piece.start.as_ptr().cast(), self.len)
            },
        }
    }
}

impl<T: Pod> DerefMut for Block<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.memory {
            Memory::Small(values) => values,
            // SAFETY: as in `deref`; a piece has one owner.
            Memory::Large(piece) => unsafe {
                debug_assert!(self.len * size_of::<T>() <= piece.bytes, "an array ends inside its piece");
                std::slice::from_raw_parts_mut(piece.start.as_ptr().cast(), self.len)
            },
        }
    }
}

impl<T: Pod> Drop for Block<T> {
    fn drop(&mut self) {
        if let Memory::Large(piece) = std::mem::replace(&mut self.memory, Memory::Small(Vec::new())) {
            store().give(piece);
        }
    }
}

impl<T: Pod> Clone for Block<T> {
    fn clone(&self) -> Self {
        Self::from(&self[..])
    }
}

impl<T: Pod> Default for Block<T> {
    fn default() -> Self {
        Self::uninit(0)
    }
}

impl<T: Pod + PartialEq> PartialEq for Block<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Pod + std::fmt::Debug> std::fmt::Debug for Block<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self[..].fmt(f)
    }
}

impl<T: Pod> From<&[T]> for Block<T> {
    fn from(values: &[T]) -> Self {
        let mut block = Self::uninit(values.len());
        block.copy_from_slice(values);
        block
    }
}

/// Returns unused slabs to the system, after one-off work such as loading a model.
pub fn release() {
    store().release();
}

/// Bytes of arrays that live in slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Now.
    pub now: usize,
    /// At most at one time since [`reset_peak`], or since the program began.
    pub peak: usize,
}

/// How much of the slabs is in use, by the whole process.
pub fn in_use() -> InUse {
    store().in_use
}

/// Lets [`InUse::peak`] start again from what is in use now.
pub fn reset_peak() {
    let in_use = &mut store().in_use;
    in_use.peak = in_use.now;
}

/// A run of a slab, at a multiple of [`SMALL`] bytes.
struct Piece {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a piece is memory that one owner uses; it is bound to no thread.
unsafe impl Send for Piece {}
// SAFETY: shared references to a piece only read.
unsafe impl Sync for Piece {}

/// Slabs, and what of them is free.
struct Store {
    /// By the address of their first byte.
    slabs: BTreeMap<usize, MmapRaw>,
    /// Bytes of each free run, by its address. No run crosses from one slab into another.
    free: BTreeMap<usize, usize>,
    /// The same runs, shortest first.
    by_size: BTreeSet<(usize, usize)>,
    in_use: InUse,
}

static STORE: Mutex<Store> = Mutex::new(Store::new());

fn store() -> std::sync::MutexGuard<'static, Store> {
    // What can panic here is a mapping that the system refuses, before anything is changed.
    STORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Store {
    const fn new() -> Self {
        Self {
            slabs: BTreeMap::new(),
            free: BTreeMap::new(),
            by_size: BTreeSet::new(),
            in_use: InUse { now: 0, peak: 0 },
        }
    }

    /// The shortest free run that is long enough, cut to size, or one of a new slab.
    fn take(&mut self, bytes: usize) -> Piece {
        let size = bytes.next_multiple_of(SMALL);
        let (found, address) = match self.by_size.range((size, 0)..).next() {
            Some(run) => *run,
            None => self.add_slab(size),
        };
        self.free.remove(&address);
        self.by_size.remove(&(found, address));
        if found > size {
            self.insert(address + size, found - size);
        }
        let (base, slab) = self.slabs.range(..=address).next_back().expect("a free run is inside a slab");
        self.in_use.now += size;
        self.in_use.peak = self.in_use.peak.max(self.in_use.now);
        // No reference to the slab is made: others use other pieces of it.
        let start = slab.as_mut_ptr().wrapping_add(address - base);
        Piece { start: NonNull::new(start).expect("mapped memory has an address"), bytes: size }
    }

    /// Puts a run back, as one with its free neighbours in the slab.
    fn give(&mut self, piece: Piece) {
        let (mut address, mut bytes) = (piece.start.as_ptr() as usize, piece.bytes);
        self.in_use.now -= bytes;
        let after = address + bytes;
        if !self.slabs.contains_key(&after)
            && let Some(more) = self.free.remove(&after)
        {
            self.by_size.remove(&(more, after));
            bytes += more;
        }
        if !self.slabs.contains_key(&address)
            && let Some((before, length)) = self.free.range(..address).next_back().map(|(a, b)| (*a, *b))
            && before + length == address
        {
            self.free.remove(&before);
            self.by_size.remove(&(length, before));
            (address, bytes) = (before, bytes + length);
        }
        self.insert(address, bytes);
    }

    fn insert(&mut self, address: usize, bytes: usize) {
        self.free.insert(address, bytes);
        self.by_size.insert((bytes, address));
    }

    /// Maps a slab of at least `bytes` bytes and returns its only run.
    fn add_slab(&mut self, bytes: usize) -> (usize, usize) {
        let map = new_map(bytes.max(SLAB));
        let run = (map.len(), map.as_mut_ptr() as usize);
        self.insert(run.1, run.0);
        self.slabs.insert(run.1, map);
        run
    }

    fn release(&mut self) {
        let free = &self.free;
        let unused = |base: &usize, slab: &MmapRaw| free.get(base) == Some(&slab.len());
        let gone: Vec<(usize, usize)> =
            self.slabs.iter().filter(|(base, slab)| unused(base, slab)).map(|(b, s)| (*b, s.len())).collect();
        for (base, bytes) in gone {
            self.slabs.remove(&base);
            self.free.remove(&base);
            self.by_size.remove(&(bytes, base));
        }
    }
}

fn new_map(bytes: usize) -> MmapRaw {
    let map = MmapMut::map_anon(bytes)
        .unwrap_or_else(|error| panic!("no memory for an array of {bytes} bytes: {error}"));
    #[cfg(target_os = "linux")]
    if bytes >= 2 << 20 {
        // Advice only: where the system has no huge pages, small ones do.
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    map.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_hold_what_is_written() {
        for len in [0, 3, 1000, 5000, 700_000] {
            let mut block = Block::<f32>::zeros(len);
            assert!(block.len() == len && block.iter().all(|x| *x == 0.0));
            for (i, x) in block.iter_mut().enumerate() {
                *x = i as f32;
            }
            let copy = block.clone();
            block.fill(7.0);
            assert!(copy.iter().enumerate().all(|(i, x)| *x == i as f32));
        }
    }

    #[cfg(not(sanitizer))]
    #[test]
    fn large_arrays_begin_at_a_cache_line() {
        let block = Block::<u32>::zeros(100_000);
        assert_eq!(block.as_ptr() as usize % 64, 0);
    }

    #[test]
    fn memory_that_went_back_is_found_again_whole() {
        let mut store = Store::new();
        let pieces: Vec<Piece> = (1..200).map(|i| store.take(7000 * i)).collect();
        let slabs = store.slabs.len();
        assert!(slabs > 1, "more than one slab was needed");
        let mut places: Vec<(usize, usize)> =
            pieces.iter().map(|piece| (piece.start.as_ptr() as usize, piece.bytes)).collect();
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "pieces overlap");
        // Odd ones first, so that neighbours come together from both sides.
        let (odd, even): (Vec<_>, Vec<_>) = pieces.into_iter().enumerate().partition(|(i, _)| i % 2 == 1);
        odd.into_iter().chain(even).for_each(|(_, piece)| store.give(piece));
        assert_eq!((store.free.len(), store.by_size.len()), (slabs, slabs));
        assert!(store.in_use.now == 0 && store.in_use.peak > 7000 * 199 * 100, "{:?}", store.in_use);
        let large = store.take(SLAB);
        assert_eq!((store.slabs.len(), store.in_use.now), (slabs, SLAB));
        store.release();
        assert_eq!((store.slabs.len(), store.free.len()), (1, 0));
        store.give(large);
        store.release();
        assert!(store.slabs.is_empty());
    }

    #[test]
    fn an_array_larger_than_a_slab_has_its_own() {
        let mut store = Store::new();
        let piece = store.take(SLAB + 1);
        assert_eq!((store.slabs.len(), piece.bytes), (1, SLAB + SMALL));
        store.give(piece);
    }
}
