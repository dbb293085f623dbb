use super::*;
use solon_feedback::{Choice, Order};
use solon_records::Message;

fn pair(id: &str, first: &str) -> Pair {
    Pair {
        id: id.to_owned(),
        prompt: vec![Message::user("Q")],
        first: first.to_owned(),
        second: "B".to_owned(),
        cut_off: [false; 2],
        principle_id: None,
    }
}

fn who(name: &str) -> Annotator {
    Annotator::new(name).unwrap()
}

fn vote(id: &str, name: &str) -> Vote {
    Vote::new(id, who(name), Pass::Label, Some(Order::Ba), Choice::A)
}

/// A folder with `out`, and the pairs p and q.
fn place() -> (tempfile::TempDir, PathBuf, [Pair; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    (folder, out, [pair("p", "A"), pair("q", "A")])
}

fn voted(out: &Path, pairs: &[Pair]) -> Vec<(String, String)> {
    let stored = StoredVotes::read(out, pairs).unwrap();
    stored.votes.iter().map(|vote| (vote.annotator.to_string(), vote.pair_id.clone())).collect()
}

fn said(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(name, pair)| (name.to_string(), pair.to_string())).collect()
}

#[test]
fn votes_outlive_the_session_and_a_line_cut_short_does_not() {
    let (_folder, out, pairs) = place();
    let path = beside(&out, "votes.ann");
    let mut votes = OwnVotes::open(&out, &who("ann"), &pairs).unwrap();
    let error = OwnVotes::open(&out, &who("ann"), &pairs).err().unwrap().to_string();
    assert!(error.contains("in use by another session"), "they would undo each other's votes: {error}");
    votes.append(vote("p", "ann")).unwrap();
    votes.append(vote("q", "ann")).unwrap();
    votes.take_back("q").unwrap();
    assert!(votes.take_back("q").is_err());
    drop(votes);
    let whole = std::fs::read(&path).unwrap();
    assert!(String::from_utf8_lossy(&whole).contains("\"time\":\"20"));
    for torn in [&b"{\"pair_id\":\"q\""[..], b"\0\0\0", b"\xff"] {
        std::fs::write(&path, [&whole[..], torn].concat()).unwrap();
        assert_eq!(voted(&out, &pairs), said(&[("ann", "p")]), "another session reads what is whole");
        let mut votes = OwnVotes::open(&out, &who("ann"), &pairs).unwrap();
        assert!(votes.take_back("p").is_err(), "it is of an earlier session");
        votes.append(vote("q", "ann")).unwrap();
        assert_eq!(voted(&out, &pairs), said(&[("ann", "p"), ("ann", "q")]));
        votes.take_back("q").unwrap();
    }
}

#[test]
fn people_vote_side_by_side_and_files_are_joined_by_copying_them() {
    let (_folder, out, pairs) = place();
    let mut ann = OwnVotes::open(&out, &who("ann"), &pairs).unwrap();
    let mut bob = OwnVotes::open(&out, &who("bob b."), &pairs).unwrap();
    ann.append(vote("p", "ann")).unwrap();
    bob.append(vote("p", "bob b.")).unwrap();
    assert_eq!(voted(&out, &pairs), said(&[("ann", "p"), ("bob b.", "p")]));
    let [of_ann, copy] = ["votes.ann", "votes.ann (copy)"].map(|what| beside(&out, what));
    std::fs::copy(&of_ann, &copy).unwrap();
    // A file of another output is none of this one's.
    std::fs::copy(&of_ann, out.with_file_name("other.jsonl.votes.ann.jsonl")).unwrap();
    assert_eq!(voted(&out, &pairs).len(), 2, "a copied vote counts once");
    let changed = std::fs::read_to_string(&copy).unwrap().replace("\"a\"", "\"b\"").replace("0.0", "1.0");
    std::fs::write(&copy, changed).unwrap();
    let error = StoredVotes::read(&out, &pairs).unwrap_err().to_string();
    assert!(error.contains(":1: ann has another vote on p at ") && error.contains("hint: "), "{error}");
    std::fs::remove_file(&copy).unwrap();
    // Old votes have no name; votes on pairs that are gone are kept and not counted.
    let line = std::fs::read_to_string(&of_ann).unwrap().replace("\"annotator\":\"ann\",", "");
    std::fs::write(beside(&out, "votes"), line.replace("\"p\"", "\"gone\"") + &line).unwrap();
    let stored = StoredVotes::read(&out, &pairs).unwrap();
    assert_eq!((stored.votes.len(), stored.on_others), (3, 1));
    assert!(stored.votes.iter().any(|vote| vote.annotator == Annotator::default()));
}

#[test]
fn a_vote_on_other_texts_or_of_someone_else_is_refused() {
    let (_folder, out, pairs) = place();
    OwnVotes::open(&out, &who("ann"), &pairs).unwrap().append(vote("p", "ann")).unwrap();
    let refused =
        |name: &str, pairs: &[Pair]| OwnVotes::open(&out, &who(name), pairs).err().unwrap().to_string();
    let error = refused("ann", &[pair("p", "C")]);
    assert!(error.contains("votes.ann.jsonl:1: the vote on p belongs to a pair with other texts"), "{error}");
    assert!(StoredVotes::read(&out, &[pair("p", "C")]).is_err());
    std::fs::rename(beside(&out, "votes.ann"), beside(&out, "votes.bob")).unwrap();
    let error = refused("bob", &pairs);
    assert!(error.contains("votes.bob.jsonl:1: the vote is of ann, and the file of bob"), "{error}");
    for wrong in [
        "{}",
        "[]",
        "null",
        r#"{"pair_id":"p","annotator":"a/b","order":"ab","choice":"a","probability":1.0,"pair_sha256":""}"#,
        r#"{"pair_id":"x","order":"ab","choice":"b","probability":1.0,"pair_sha256":""}"#,
    ] {
        std::fs::write(beside(&out, "votes"), format!("\n{wrong}\n")).unwrap();
        let error = StoredVotes::read(&out, &pairs).unwrap_err().to_string();
        assert!(error.contains("votes.jsonl:2 is not a vote"), "{error}");
    }
}

#[test]
fn imported_votes_replace_no_others() {
    let (_folder, out, pairs) = place();
    let votes = || vec![vote("p", "ann"), vote("p", "bob")];
    write_imported(&out, &pairs, votes()).unwrap();
    write_imported(&out, &pairs, votes()).unwrap();
    let error = write_imported(&out, &pairs, vec![vote("q", "ann")]).unwrap_err().to_string();
    assert!(error.contains("holds other votes") && error.contains("hint: "), "{error}");
    assert_eq!(voted(&out, &pairs).len(), 2);
}
