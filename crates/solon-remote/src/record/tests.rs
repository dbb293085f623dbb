use super::*;
use crate::answer::{End, Likely};

fn answer(text: &str) -> Answer {
    let first = vec![Likely { token: "ja".to_owned(), logprob: -0.1 }];
    Answer { text: text.to_owned(), end: End::Cut, first, tokens: Some(Tokens { input: 3, output: 2 }) }
}

/// What an answer takes at most, where the server does not say what it took.
const MOST: Tokens = Tokens { input: 100, output: 10 };

fn open(path: &Path) -> Result<Record, String> {
    Record::open(path, Provider::OpenAi, "judge").map_err(|error| error.to_string())
}

fn key(n: u8) -> Key {
    [n; 32]
}

/// A record with two answers.
fn two(path: &Path) -> Vec<u8> {
    let record = open(path).unwrap();
    record.keep(key(1), &answer("one\n\"1\""), MOST).unwrap();
    // Longer than what comes after it, so that what is not cut off would show.
    record.keep(key(2), &answer(&"zwei ✓".repeat(20)), MOST).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn answers_are_read_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    two(&path);
    let record = open(&path).unwrap();
    assert_eq!(record.get(&key(1)).unwrap(), Some(answer("one\n\"1\"")));
    assert_eq!(record.get(&key(2)).unwrap(), Some(answer(&"zwei ✓".repeat(20))));
    assert_eq!(record.get(&key(3)).unwrap(), None);
    assert_eq!((record.answers, record.earlier), (2, Tokens { input: 6, output: 4 }));
    record.keep(key(3), &answer("three"), MOST).unwrap();
    assert_eq!(record.get(&key(1)).unwrap(), Some(answer("one\n\"1\"")));
    assert_eq!(record.get(&key(3)).unwrap(), Some(answer("three")));
    record.keep(key(4), &Answer { tokens: None, ..answer("four") }, MOST).unwrap();
    drop(record);
    assert_eq!(open(&path).unwrap().earlier, Tokens { input: 109, output: 16 });
    // Another model's answers are there, and are not this model's account.
    let other = Record::open(&path, Provider::Anthropic, "judge").unwrap();
    assert_eq!((other.answers, other.earlier), (0, Tokens::default()));
    assert!(other.get(&key(1)).unwrap().is_some());
}

/// Killed at any byte of writing: what was whole stays, and the next answer begins on a line of its own.
#[test]
fn a_record_that_is_torn_at_any_byte_loses_its_last_answer_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    let whole = two(&path);
    let ends: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let record = open(&path).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        assert!(std::fs::read(&path).unwrap().ends_with(b"\n"), "{length} bytes");
        // A line that lacks nothing but its end was paid for and is kept.
        let expected = ends[1..].iter().filter(|end| length >= **end).count();
        assert_eq!(record.answers, expected, "{length} bytes");
        record.keep(key(9), &answer("next"), MOST).unwrap();
        drop(record);
        let record = open(&path).unwrap();
        assert_eq!(record.answers, expected + 1, "{length} bytes");
        assert_eq!(record.get(&key(9)).unwrap(), Some(answer("next")));
    }
}

#[test]
fn a_wrong_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    let whole = String::from_utf8(two(&path)).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let short = lines[1].replacen("01", "", 1);
    let extra = lines[1].replacen("{", "{\"url\":\"x\",", 1);
    for (wrong, part) in [
        (&*short, "no key"),
        (&extra, "unknown field `url`"),
        ("", "EOF"),
        ("{}", "missing field"),
        ("\0\0\0", "expected value"),
        (lines[0], "unknown field"),
    ] {
        let text = format!("{}\n{}\n{wrong}\n{}\n", lines[0], lines[1], lines[2]);
        std::fs::write(&path, &text).unwrap();
        let error = open(&path).map(|_| ()).unwrap_err();
        assert!(error.contains("answers.jsonl: line 3: ") && error.contains(part), "{part}: {error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "nothing is cut off");
    }
}

#[test]
fn a_file_of_another_kind_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.jsonl");
    for text in [
        "{\"prompt\": \"a\"}",
        "{\"prompt\": \"a\"}\n",
        "x",
        "\n",
        "{\"format\":\"solon answers\",\"version\":2}\n",
    ] {
        std::fs::write(&path, text).unwrap();
        let error = open(&path).map(|_| ()).unwrap_err();
        assert!(error.contains("notes.jsonl") && error.contains("no record of answers"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn answers_that_come_together_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    let record = open(&path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let record = &record;
            scope.spawn(move || {
                for n in 0..10 {
                    let n = thread * 10 + n;
                    record.keep(key(n), &answer(&"x".repeat(usize::from(n))), MOST).unwrap();
                }
            });
        }
    });
    drop(record);
    let record = open(&path).unwrap();
    for n in 0..80 {
        assert_eq!(record.get(&key(n)).unwrap(), Some(answer(&"x".repeat(usize::from(n)))));
    }
}
