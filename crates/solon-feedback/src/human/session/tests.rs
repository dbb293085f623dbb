use super::*;
use solon_records::Message;

fn pairs(n: usize) -> Vec<Pair> {
    let make = |i: usize| Pair {
        id: format!("p{i}"),
        prompt: vec![Message::user(format!("ask {i}"))],
        first: format!("first {i}"),
        second: format!("second {i}"),
        cut_off: [false; 2],
        principle_id: None,
    };
    (0..n).map(make).collect()
}

fn ann() -> Annotator {
    Annotator::new("ann").unwrap()
}

/// A stored vote of someone on a pair, whose first answer was shown as A.
fn stored(pair: &str, who: &str, choice: Choice) -> Vote {
    Vote::new(pair, Annotator::new(who).unwrap(), Pass::Label, Some(Order::Ab), choice)
}

/// Types the lines into a session; returns the output, the events, and the end.
fn types(session: &HumanSession<'_>, typed: &[u8]) -> (String, Vec<SessionEvent>, SessionEnd) {
    let (mut shown, mut events) = (Vec::new(), Vec::new());
    let mut store = |event| {
        events.push(event);
        Ok(())
    };
    let end = session.run(&mut { typed }, &mut shown, &mut store).unwrap();
    (String::from_utf8(shown).unwrap(), events, end)
}

/// The same in a session that labels, without repeats, after votes on the pairs in `voted`.
fn run(pairs: &[Pair], voted: &[&str], typed: &[u8]) -> (String, Vec<SessionEvent>, SessionEnd) {
    let votes: Vec<Vote> = voted.iter().map(|id| stored(id, "ann", Choice::A)).collect();
    types(&HumanSession::label(pairs, &ann(), 9, 0.0, &votes).unwrap(), typed)
}

fn votes(events: Vec<SessionEvent>) -> Vec<Vote> {
    let vote = |event| match event {
        SessionEvent::Voted(vote) => vote,
        SessionEvent::Undone { .. } => panic!("{event:?}"),
    };
    events.into_iter().map(vote).collect()
}

#[test]
fn a_vote_counts_for_the_answer_that_was_shown() {
    let (shown, events, end) = run(&pairs(40), &[], "a\n".repeat(40).as_bytes());
    assert_eq!(end, SessionEnd { votes: 40, repeats: 0, skipped: 0, left: 0 });
    let mut first_as_a = 0;
    for (i, vote) in votes(events.clone()).iter().enumerate() {
        let first_is_a = shown.contains(&format!("\nA\n  | first {i}\n"));
        assert_eq!(vote.order, Some(if first_is_a { Order::Ab } else { Order::Ba }));
        assert_eq!((vote.probability, vote.annotator.name()), (if first_is_a { 1.0 } else { 0.0 }, "ann"));
        first_as_a += usize::from(first_is_a);
    }
    assert!((10..=30).contains(&first_as_a), "{first_as_a}");
    assert_eq!(run(&pairs(40), &[], "a\n".repeat(40).as_bytes()).1, events);
    // Someone else sees other orders: a bias for A is then no agreement.
    let pairs = pairs(40);
    let other = Annotator::new("bob").unwrap();
    let session = HumanSession::label(&pairs, &other, 9, 0.0, &[]).unwrap();
    let theirs = votes(types(&session, "a\n".repeat(40).as_bytes()).1);
    let same = theirs.iter().zip(votes(events)).filter(|(one, two)| one.order == two.order).count();
    assert!((8..=32).contains(&same), "{same}");
}

#[test]
fn tie_skip_undo_quit_and_nonsense() {
    let (shown, events, end) = run(&pairs(4), &[], b"u\nT\ns\nwhat\n\xff\nb\nu\nu\ntie\nq\na\n");
    assert!(shown.contains("nothing to undo"));
    assert_eq!(shown.matches("Unknown command.").count(), 2);
    let ids: Vec<_> = events
        .iter()
        .map(|event| match event {
            SessionEvent::Voted(vote) => format!("+{}", vote.pair_id),
            SessionEvent::Undone { pair_id } => format!("-{pair_id}"),
        })
        .collect();
    // p0 tie, p1 skipped, p2 voted, undone, the skip of p1 undone, p1 tie, quit.
    assert_eq!(ids, ["+p0", "+p2", "-p2", "+p1"]);
    assert!(matches!(&events[3], SessionEvent::Voted(v) if v.probability == 0.5 && v.choice == Choice::Tie));
    assert_eq!(end, SessionEnd { votes: 2, repeats: 0, skipped: 0, left: 2 });
}

#[test]
fn a_session_resumes_and_its_last_vote_can_be_undone() {
    let (shown, events, end) = run(&pairs(3), &["p0", "p1"], b"a\nu\nb\n\n");
    assert!(shown.contains("Pair 1 of 1") && !shown.contains("ask 0"));
    assert_eq!(events.len(), 3);
    assert_eq!(end, SessionEnd { votes: 1, repeats: 0, skipped: 0, left: 0 });
    let (shown, events, end) = run(&pairs(1), &["p0"], b"");
    assert!(shown.is_empty() && events.is_empty());
    assert_eq!(end.left, 0);
    assert_eq!(run(&pairs(2), &[], b"a\n").2, SessionEnd { votes: 1, repeats: 0, skipped: 0, left: 1 });
    // Votes of others hide nothing.
    let (pairs, theirs) = (pairs(1), [stored("p0", "bob", Choice::A)]);
    let session = HumanSession::label(&pairs, &ann(), 9, 0.0, &theirs).unwrap();
    assert_eq!(types(&session, b"a\n\n").2.votes, 1);
}

#[test]
fn a_vote_that_the_end_of_the_input_cuts_off_is_none() {
    let (_, events, end) = run(&pairs(2), &[], b"a\nb");
    assert_eq!((events.len(), end.left), (1, 1));
}

#[test]
fn a_share_comes_again_later_in_the_other_order_and_untold() {
    let pairs = pairs(200);
    let session = HumanSession::label(&pairs, &ann(), 9, 0.1, &[]).unwrap();
    let (shown, events, end) = types(&session, "a\n".repeat(300).as_bytes());
    assert!((10..=30).contains(&end.repeats), "{end:?}");
    assert_eq!((end.votes, end.left), (200, 0));
    assert!(!shown.to_lowercase().contains("again") && !shown.to_lowercase().contains("repeat"));
    let cast = votes(events.clone());
    for (place, again) in cast.iter().enumerate().filter(|(_, vote)| vote.pass == Pass::Repeat) {
        let at = cast.iter().position(|vote| vote.pair_id == again.pair_id).unwrap();
        assert_eq!((cast[at].pass, cast[at].order), (Pass::Label, again.order.map(Order::other)));
        assert!(place - at > APART, "{place} {at}");
        assert_ne!(cast[at].probability, again.probability, "always A is never consistent");
    }
    // Stopped anywhere, a session goes on to the same votes; what was repeated is not repeated again.
    for stop in [1, 37, 120, 205] {
        let before = cast[..stop].to_vec();
        let session = HumanSession::label(&pairs, &ann(), 9, 0.1, &before).unwrap();
        let after = votes(types(&session, "a\n".repeat(300).as_bytes()).1);
        assert_eq!([before, after].concat(), cast, "{stop}");
    }
    let session = HumanSession::label(&pairs, &ann(), 9, 0.1, &cast).unwrap();
    assert!(types(&session, b"a\n").1.is_empty());
}

#[test]
fn what_was_skipped_or_undone_is_not_repeated() {
    let pairs = pairs(8);
    let session = HumanSession::label(&pairs, &ann(), 9, 1.0, &[]).unwrap();
    let cast = votes(types(&session, "a\n".repeat(20).as_bytes()).1);
    assert_eq!(cast.iter().filter(|vote| vote.pass == Pass::Repeat).count(), 8);
    let (_, events, end) = types(&session, format!("s\na\nu\ns\n{}", "a\n".repeat(20)).as_bytes());
    let again: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            SessionEvent::Voted(vote) if vote.pass == Pass::Repeat => Some(vote.pair_id.as_str()),
            _ => None,
        })
        .collect();
    assert!(!again.contains(&"p0") && !again.contains(&"p1") && again.len() == 6, "{again:?}");
    assert_eq!(end, SessionEnd { votes: 6, repeats: 6, skipped: 2, left: 2 });
    for share in [-0.1, 1.1, f64::NAN] {
        let error = HumanSession::label(&pairs, &ann(), 9, share, &[]).unwrap_err().to_string();
        assert!(error.contains("repeats is"), "{error}");
    }
}

#[test]
fn too_few_pairs_are_not_repeated() {
    let again =
        |n: usize| with_repeats(&vec![Some(5); n]).iter().filter(|(_, pass)| *pass == Pass::Repeat).count();
    assert_eq!((again(0), again(3), again(4)), (0, 0, 4));
}

#[test]
fn an_adjudicator_votes_before_seeing_the_votes() {
    let pairs = pairs(4);
    let votes_before = [
        stored("p0", "ann", Choice::A),
        stored("p0", "bob", Choice::B),
        stored("p1", "ann", Choice::A),
        stored("p1", "bob", Choice::A),
        stored("p2", "ann", Choice::Tie),
        stored("gone", "ann", Choice::Tie),
    ];
    let judge = Annotator::new("cy").unwrap();
    let session = HumanSession::adjudicate(&pairs, &judge, 9, &votes_before).unwrap();
    let (shown, events, end) = types(&session, b"a\nb\n\n");
    assert_eq!(end, SessionEnd { votes: 2, repeats: 0, skipped: 0, left: 0 });
    let cast = votes(events);
    assert_eq!(cast.iter().map(|vote| vote.pair_id.as_str()).collect::<Vec<_>>(), ["p0", "p2"]);
    assert!(cast.iter().all(|vote| vote.pass == Pass::Adjudication && vote.annotator == judge));
    let told = shown.find("The votes were: ").unwrap();
    assert!(told > shown.find("> ").unwrap(), "blind first");
    let expected = match cast[0].order {
        Some(Order::Ab) => "The votes were: ann A, bob B\n",
        _ => "The votes were: ann B, bob A\n",
    };
    assert!(shown.contains(expected) && shown.contains("The votes were: ann tie\n"), "{shown}");
    let all = [&votes_before[..], &cast[..]].concat();
    let done = HumanSession::adjudicate(&pairs, &judge, 9, &all).unwrap();
    assert!(types(&done, b"a\n").0.is_empty(), "what is decided is not asked again");
}

#[test]
fn a_failed_store_ends_the_session_and_shared_ids_are_refused() {
    let pairs = pairs(2);
    let session = HumanSession::label(&pairs, &ann(), 9, 0.0, &[]).unwrap();
    let mut store = |_| Err(FeedbackError::persist("disk full"));
    let error = session.run(&mut &b"a\na\n"[..], &mut Vec::new(), &mut store).unwrap_err();
    assert!(error.to_string().contains("disk full"), "{error}");
    let twins = [pairs[0].clone(), pairs[0].clone()];
    assert!(HumanSession::label(&twins, &ann(), 9, 0.0, &[]).is_err());
    assert!(HumanSession::adjudicate(&twins, &ann(), 9, &[]).is_err());
}

#[test]
fn a_terminal_that_closes_ends_the_session_after_the_votes_it_took() {
    struct Closes(usize);
    impl Write for Closes {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let pairs = pairs(3);
    let session = HumanSession::label(&pairs, &ann(), 9, 0.0, &[]).unwrap();
    let mut events = Vec::new();
    let mut store = |event| {
        events.push(event);
        Ok(())
    };
    let error = session.run(&mut &b"a\na\na\n"[..], &mut Closes(2), &mut store).unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert_eq!(events.len(), 2, "both pairs that were shown");
}

#[test]
fn an_answer_can_neither_command_the_terminal_nor_fake_a_heading() {
    let mut pairs = pairs(1);
    pairs[0].first = "x\u{1b}[2J\r\n\nB\nfake".into();
    let (shown, _, _) = run(&pairs, &[], b"");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\r'));
    assert_eq!(shown.matches("\nB\n").count(), 1);
    assert!(shown.contains("  | fake"));
}
