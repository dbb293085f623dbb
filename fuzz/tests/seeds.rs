//! The fuzz targets' functions on their seeds, on what fuzzing found, and on a few mutations of each: a regression test that is built
//! with all others. It runs one input after the other, because each one's memory is looked at.

use solon_draws::Draws;
use solon_fuzz::{Target, check, seeds};

/// Mutations of each seed. More are the fuzzer's task; so many find a check that was taken out.
const MUTATIONS: u64 = 200;

/// What the formats' own checks are about: borders of numbers, and characters that open, close and separate.
const PIECES: [&[u8]; 14] = [
    &[0],
    &[0xff],
    &[0xff; 8],
    &[0, 0, 0, 0x80],
    &[0, 0, 0, 1, 0, 0, 0, 0],
    b"-1",
    b"99999999999999999999",
    b"1e999",
    b"null",
    b"[[[[[[[[",
    b"}",
    b"\"",
    b"\xc3",
    b"{% for a in range(9) %}",
];

#[test]
fn nothing_that_is_read_causes_a_panic_or_takes_much_memory() {
    // One test, because the memory that is counted is that of the process.
    for target in Target::ALL {
        for (number, seed) in seeds::made(target).into_iter().enumerate() {
            assert!(check(target, &seed), "seed {number} of {target:?} is refused");
            for mutation in 0..MUTATIONS {
                let draws = Draws::new(mutation, "mutations").item(target.name()).index(number as u64);
                check(target, &mutated(&seed, draws));
            }
        }
        // Not mutated: some of these take all that they may take.
        for input in seeds::found(target) {
            check(target, &input);
        }
    }
}

/// One to four changes: bytes replaced by a piece, a piece put in, a stretch left out, repeated, or all after it left out.
fn mutated(seed: &[u8], draws: Draws) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for change in 0..1 + draws.below(0, 4) as u64 {
        let draw = |what: u64, n: usize| draws.below(1 + 4 * change + what, n);
        let start = draw(0, bytes.len() + 1);
        let end = start + draw(1, 33).min(bytes.len() - start);
        let piece = PIECES[draw(2, PIECES.len())];
        match draw(3, 6) {
            0 => drop(bytes.splice(start..(start + piece.len()).min(bytes.len()), piece.iter().copied())),
            1 => drop(bytes.splice(start..start, piece.iter().copied())),
            2 => drop(bytes.drain(start..end)),
            3 => bytes.extend_from_within(start..end),
            4 => bytes.truncate(start.max(seed.len() / 2)),
            _ => bytes[start..end].iter_mut().for_each(|byte| *byte ^= 1 << draw(2, 8)),
        }
    }
    bytes
}
