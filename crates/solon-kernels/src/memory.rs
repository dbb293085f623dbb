//! Memory that is used again: large arrays, aligned for vectors, that go back to a common store when they are dropped.
//!
//! A training step needs the same arrays as the step before. Asking the system for them each time costs more than many
//! kernels do: pages are cleared, mapped and unmapped, and every unmapping interrupts the other threads. From the second
//! step on nothing is asked of the system. All but the largest arrays are cut from slabs, which the system may give huge
//! pages: weights are read almost twice as fast from those.

use bytemuck::Pod;
use memmap2::MmapMut;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Mutex;

/// Arrays below this many bytes are plain vectors.
const SMALL: usize = 4096;
/// Bytes of a slab.
const SLAB: usize = 64 << 20;
/// Arrays of this many bytes or more are mapped by themselves.
const LARGE: usize = SLAB / 4;

/// An array of `T` whose memory is used again.
pub struct Block<T: Pod> {
    memory: Memory<T>,
    len: usize,
}

enum Memory<T> {
    Small(Vec<T>),
    Large(Piece),
}

impl<T: Pod> Block<T> {
    /// An array with whatever values the memory held before; in debug builds all bits are set, which no result survives.
    ///
    /// # Panics
    /// If the system gives no more memory.
    pub fn stale(len: usize) -> Self {
        let bytes = len * size_of::<T>();
        let mut block = match bytes < SMALL {
            true => Self { memory: Memory::Small(vec![T::zeroed(); len]), len },
            false => Self { memory: Memory::Large(store().take(bytes)), len },
        };
        if cfg!(debug_assertions) {
            bytemuck::cast_slice_mut::<T, u8>(&mut block).fill(0xff);
        }
        block
    }

    /// An array of zeros.
    pub fn zeros(len: usize) -> Self {
        let mut block = Self::stale(len);
        block.fill(T::zeroed());
        block
    }
}

impl<T: Pod> Deref for Block<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Small(values) => values,
            // SAFETY: the piece is mapped for as long as it is out of the store, has room for `len` values (`stale` asked
            // for them), begins at a multiple of 64 bytes, and any bits are a value of a `Pod` type.
            Memory::Large(piece) => unsafe {
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
        Self::stale(0)
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
        let mut block = Self::stale(values.len());
        block.copy_from_slice(values);
        block
    }
}

/// Gives large arrays that are kept for later back to the system: after work whose like does not come again.
pub fn release() {
    store().release();
}

/// A run of mapped memory, at a multiple of 64 bytes.
struct Piece {
    start: NonNull<u8>,
    bytes: usize,
    /// The mapping, where the piece is all of one; the store holds the slabs.
    own: Option<MmapMut>,
}

// SAFETY: a piece is memory that one owner uses; it is bound to no thread.
unsafe impl Send for Piece {}
// SAFETY: shared references to a piece only read.
unsafe impl Sync for Piece {}

/// What is free, by size, and how much there is.
struct Store {
    free: BTreeMap<usize, Vec<Piece>>,
    free_bytes: usize,
    used_bytes: usize,
    most_used: usize,
    /// Never unmapped. Of the last one, `cut` bytes are given out.
    slabs: Vec<MmapMut>,
    cut: usize,
}

static STORE: Mutex<Store> = Mutex::new(Store::new());

fn store() -> std::sync::MutexGuard<'static, Store> {
    // A panic while the store is held leaves it whole: it only moves memory.
    STORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Store {
    const fn new() -> Self {
        Self { free: BTreeMap::new(), free_bytes: 0, used_bytes: 0, most_used: 0, slabs: Vec::new(), cut: 0 }
    }

    /// Memory of at least this many bytes: what is free and at most twice as large, or new.
    fn take(&mut self, bytes: usize) -> Piece {
        let size = rounded(bytes);
        let fitting = self.free.range_mut(size..=2 * size).find(|(_, pieces)| !pieces.is_empty());
        let piece = match fitting.and_then(|(_, pieces)| pieces.pop()) {
            Some(piece) => {
                self.free_bytes -= piece.bytes;
                piece
            }
            None if size >= LARGE => {
                let mut map = new_map(size);
                Piece { start: start_of(&mut map), bytes: size, own: Some(map) }
            }
            None => self.cut(size),
        };
        self.used_bytes += piece.bytes;
        self.most_used = self.most_used.max(self.used_bytes);
        piece
    }

    /// A piece of the last slab, or of a new one.
    fn cut(&mut self, bytes: usize) -> Piece {
        if self.slabs.is_empty() || self.cut + bytes > SLAB {
            self.slabs.push(new_map(SLAB));
            self.cut = 0;
        }
        let last = self.slabs.len() - 1;
        // SAFETY: `cut + bytes` is at most the slab's length, and what lies before `cut` was given out before.
        let start = unsafe { start_of(&mut self.slabs[last]).add(self.cut) };
        self.cut += bytes;
        Piece { start, bytes, own: None }
    }

    /// Keeps the memory for the next one. A mapping of its own goes back to the system where more would be kept than was
    /// ever used at a time.
    fn give(&mut self, piece: Piece) {
        self.used_bytes -= piece.bytes;
        if piece.own.is_none() || self.free_bytes + piece.bytes <= self.most_used {
            self.free_bytes += piece.bytes;
            self.free.entry(piece.bytes).or_default().push(piece);
        }
    }

    fn release(&mut self) {
        for pieces in self.free.values_mut() {
            pieces.retain(|piece| piece.own.is_none());
        }
        self.free_bytes = self.free.values().flatten().map(|piece| piece.bytes).sum();
        self.most_used = self.used_bytes;
    }
}

fn start_of(map: &mut MmapMut) -> NonNull<u8> {
    NonNull::from(&mut map[..]).cast()
}

/// Sizes in steps of an eighth, so that batches that are almost alike use the same memory.
fn rounded(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(SMALL);
    bytes.next_multiple_of(step)
}

fn new_map(bytes: usize) -> MmapMut {
    let map = MmapMut::map_anon(bytes)
        .unwrap_or_else(|error| panic!("no memory for an array of {bytes} bytes: {error}"));
    #[cfg(target_os = "linux")]
    if bytes >= 2 << 20 {
        // Advice only: where the system has no huge pages, small ones do.
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    map
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

    #[test]
    fn large_arrays_begin_at_a_cache_line() {
        let block = Block::<u32>::zeros(100_000);
        assert_eq!(block.as_ptr() as usize % 64, 0);
    }

    #[test]
    fn memory_that_went_back_is_found_again() {
        for bytes in [100_000, 3 * LARGE] {
            let mut store = Store::new();
            let first = store.take(bytes);
            let address = first.start;
            store.give(first);
            assert_eq!((store.used_bytes, store.free_bytes), (0, rounded(bytes)));
            let second = store.take(bytes - bytes / 10);
            assert_eq!(second.start, address);
            let other = store.take(bytes);
            assert_ne!(other.start, address);
            store.give(other);
            store.give(second);
            let third = store.take(bytes / 50);
            assert!(third.bytes < bytes / 4, "a small array does not take a large one's memory");
            store.give(third);
            store.release();
            assert_eq!(store.free.values().flatten().filter(|piece| piece.own.is_some()).count(), 0);
        }
    }

    #[test]
    fn pieces_of_slabs_do_not_overlap() {
        let mut store = Store::new();
        let mut pieces: Vec<Piece> = (1..200).map(|i| store.take(7000 * i)).collect();
        pieces.sort_by_key(|piece| piece.start);
        for pair in pieces.windows(2) {
            assert!(pair[0].start.as_ptr() as usize + pair[0].bytes <= pair[1].start.as_ptr() as usize);
        }
        assert!(store.slabs.len() > 1 && pieces.iter().all(|piece| piece.start.as_ptr() as usize % 64 == 0));
    }

    #[test]
    fn sizes_are_at_least_what_was_asked_and_little_more() {
        for bytes in [4096, 5000, 1 << 20, (1 << 20) + 1, 123_456_789] {
            let size = rounded(bytes);
            assert!(size >= bytes && size <= bytes + (bytes / 7).max(SMALL), "{bytes}: {size}");
        }
    }
}
