//! What was asked is not asked again, and what was not answered is: kills, servers that break, disks that are full.

use super::*;
use crate::place::server::{Server, said};
use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// It answers 6 questions, then fails for ever; then it works again.
#[test]
fn a_server_that_breaks_ends_the_run_and_what_it_said_is_kept() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(40));
    let works = Arc::new(AtomicUsize::new(6));
    let left = Arc::clone(&works);
    let server = Server::new(move |_, body| {
        match left.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => (200, prefers_right(body)),
            Err(_) => (500, "{}".to_owned()),
        }
    });
    let words = format!(
        "label --judge openai:big@{} --input pairs.jsonl --out out.jsonl --constitution c.toml --retries 0",
        server.url
    );
    place.run(&words, "").fails(1, &["HTTP 500", "questions in a row", "hint: "]);
    assert!(!place.path("out.jsonl").exists());
    assert_eq!(server.count(), 6);
    works.store(1000, Ordering::SeqCst);
    place.run(&words, "").ok();
    assert_eq!((server.count(), rows(&place.read("out.jsonl")).len()), (80, 40));
    assert!(rows(&place.read("out.jsonl")).iter().all(|row| row["unlabelled"].is_null()));
}

/// The server gives no reply about two pairs and refuses another, and later replies: the labels are those of a run that nothing
/// disturbed, and nothing else is asked again.
#[test]
fn a_pair_that_got_no_reply_is_asked_about_again_and_one_that_was_refused_is_not() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(6));
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let server = Server::new(move |_, body| {
        let (text, fails) = (asked(body), failing.load(Ordering::SeqCst));
        match which(body) {
            (4, _) => (400, "{\"error\": \"no\"}".to_owned()),
            (2, true) if fails => (500, "{}".to_owned()),
            // This one votes.
            (3, _) if body["max_tokens"] == 1 => (200, weighed(&[("I", -0.1)])),
            (3, false) if fails => (500, "{}".to_owned()),
            (3, _) => (200, said(if text.contains("A: left") { "B" } else { "A" })),
            _ => (200, prefers_right(body)),
        }
    });
    let words = |out: &str| {
        format!(
            "label --judge openai:m@{} --input pairs.jsonl --out {out} --constitution c.toml --retries 0 --set votes=3",
            server.url
        )
    };
    let unlabelled = || -> Vec<String> {
        let reason = |row: &Value| row["unlabelled"].as_str().unwrap_or_default().to_owned();
        let rows = rows(&place.read("out.jsonl"));
        rows.iter().map(|row| reason(row).split(':').next().unwrap().to_owned()).collect()
    };
    for _ in 0..2 {
        let ran = place.run(&words("out.jsonl"), "").ok();
        let note = "2 pairs got no reply; the same command asks again about them alone";
        assert!(ran.err.contains(note), "{}", ran.err);
        assert_eq!(unlabelled(), ["", "", "no reply", "no reply", "refused by the server", ""]);
    }
    let before = server.asked();
    fails.store(false, Ordering::SeqCst);
    place.run(&words("out.jsonl"), "").ok();
    assert_eq!(unlabelled(), ["", "", "", "", "refused by the server", ""]);
    // The other order of pair 2, and the three votes on pair 3 in one order; what was answered is in the record.
    let received: Vec<(usize, bool)> = server.received.lock().unwrap()[before..].iter().map(which).collect();
    assert_eq!(received.iter().filter(|asked| **asked == (2, true)).count(), 1, "{received:?}");
    assert_eq!(received.iter().filter(|asked| **asked == (3, false)).count(), 3, "{received:?}");
    assert_eq!(received.len(), 4, "{received:?}");
    place.run(&words("out.jsonl"), "").ok();
    assert_eq!(server.asked(), before + 4, "what is done is not asked again");
    place.run(&words("steady.jsonl"), "").ok();
    for name in ["", ".labels.jsonl"] {
        let read = |out: &str| place.read(&format!("{out}.jsonl{name}"));
        assert!(read("out") == read("steady"), "the labels differ");
    }
}

/// A limit on the size of files fails as a full disk does: once in the record of answers, which long replies fill, and once in the
/// ledger, which long pairs fill.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_loses_nothing_that_was_recorded() {
    for (reply, answer, part) in [(20_000, 1, "answers"), (1, 600, "ledger")] {
        let place = Place::new();
        plain_constitution(&place);
        let mut all = pairs(400);
        for (number, row) in all.iter_mut().enumerate() {
            row["chosen"] = format!("left {number} {}", "x".repeat(answer)).into();
        }
        place.write("pairs.jsonl", &all);
        let server = Server::new(move |_, body| {
            let mut whole: Value = serde_json::from_str(&prefers_right(body)).unwrap();
            whole["choices"][0]["message"]["content"] = "A".repeat(reply).into();
            (200, whole.to_string())
        });
        let words = |out: &str| {
            format!(
                "label --judge openai:m@{} --input pairs.jsonl --out {out} --constitution c.toml",
                server.url
            )
        };
        let solon = env!("CARGO_BIN_EXE_solon");
        // In halves of a KiB: the pairs fit, and not all of the labels.
        let limited = format!("ulimit -f 2400; trap '' XFSZ; exec {solon} {}", words("out.jsonl"));
        let ran = Command::new("sh").args(["-c", &limited]).current_dir(place.path(".")).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{said}");
        assert!(said.contains(part) && said.contains("free some space"), "{said}");
        assert!(!place.path("out.jsonl").exists());
        // But for the header.
        let kept = recorded(&place).lines().count() - 1;
        assert!(kept > 0 && kept < 800, "{kept}");
        let before = server.asked();
        place.run(&words("out.jsonl"), "").ok();
        assert_eq!(server.asked() - before, 800 - kept);
        place.run(&words("steady.jsonl"), "").ok();
        for name in ["", ".labels.jsonl"] {
            let read = |out: &str| place.read(&format!("{out}.jsonl{name}"));
            assert!(read("out") == read("steady"), "the labels differ");
        }
    }
}

/// A reply that belongs to one question alone: its log-probs, and what stands of them in a record.
fn own_reply((number, order): (usize, bool)) -> (f64, String) {
    let log_prob = -0.1 - 0.0001 * number as f64 - if order { 0.00005 } else { 0.0 };
    (log_prob, weighed(&[("A", log_prob), ("B", -3.0)]))
}

/// 20 kills at random moments while 2,000 pairs are labelled by a server that fails now and then: the labels are those of a run that
/// nothing disturbed, and nothing is asked whose answer was recorded.
#[test]
fn kills_lose_no_answer_and_nothing_recorded_is_asked_again() {
    const PAIRS: usize = 2000;
    const KILLS: u64 = 20;
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(PAIRS));
    let steady = Server::new(|_, body| (200, own_reply(which(body)).1));
    let words = |server: &Server, out: &str| {
        format!("label --judge openai:m@{} --input pairs.jsonl --out {out} --constitution c.toml", server.url)
    };
    place.run(&words(&steady, "steady.jsonl"), "").ok();
    assert_eq!(steady.count(), 2 * PAIRS);

    let flaky = Server::new(|number, body| match number % 97 {
        13 => (500, "{}".to_owned()),
        29 => (0, String::new()),
        47 => (200, "{\"choi".to_owned()),
        61 => (429, "{}".to_owned()),
        _ => (200, own_reply(which(body)).1),
    });
    let words = words(&flaky, "out.jsonl");
    let words: Vec<&str> = words.split_whitespace().collect();
    let moments = solon_draws::Draws::new(5, "kills");
    let mut checked = 0;
    for kill in 0..=KILLS {
        let recorded = recorded_log_probs(&place);
        let mut child = place.start(&words);
        match kill {
            KILLS => assert!(child.wait().unwrap().success()),
            // Few enough that some are left for the last run.
            _ => {
                flaky.wait_for(checked + 1 + moments.below(kill, 170));
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
        // A request that arrives after its process was killed is checked with the next: it has no answer that could be recorded.
        let received = flaky.received.lock().unwrap();
        let twice: Vec<(usize, bool)> = received[checked..]
            .iter()
            .map(which)
            .filter(|asked| recorded.contains(&own_reply(*asked).0.to_string()))
            .collect();
        assert!(twice.is_empty(), "asked though recorded: {twice:?}");
        checked = received.len();
    }
    assert_eq!(
        recorded_log_probs(&place).len(),
        2 * PAIRS,
        "the record holds every answer, and the test reads it"
    );
    let rows = |name: &str| place.read(name).replace(&steady.url, "").replace(&flaky.url, "");
    assert!(rows("out.jsonl") == rows("steady.jsonl"), "the labels differ");
    assert!(place.read("out.jsonl.labels.jsonl") == place.read("steady.jsonl.labels.jsonl"));
}

/// What the record of answers holds.
fn recorded(place: &Place) -> String {
    let Ok(folder) = std::fs::read_dir(place.path("out.jsonl.run/answers")) else {
        return String::new();
    };
    folder.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

/// The log-probs that it holds.
fn recorded_log_probs(place: &Place) -> HashSet<String> {
    let text = recorded(place);
    let numbers = text.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
    numbers.filter(|number| number.starts_with("-0.")).map(str::to_owned).collect()
}

/// Neither another error about the same pair nor servers that cannot be asked change what stands on the labels.
#[test]
fn replies_that_are_still_missing_leave_a_finished_run_finished() {
    let place = Place::with_model();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(6));
    let status = Arc::new(AtomicUsize::new(500));
    let now = Arc::clone(&status);
    let server = Server::new(move |number, body| match now.load(Ordering::SeqCst) {
        401 => (401, "{}".to_owned()),
        status if status != 200 && which(body).0 == 2 => {
            (u16::try_from(status).unwrap(), format!("{{\"request\": {number}}}"))
        }
        _ => (200, prefers_right(body)),
    });
    let recipe = format!(
        "name = \"t\"\nmodel = {:?}\nconstitution = \"c.toml\"\n\
         [[stage]]\nkind = \"label\"\njudge = \"openai:m@{}\"\npairs = \"pairs.jsonl\"\ngate = false\njudge_limits = {{ retries = 0 }}\n\
         [[stage]]\nkind = \"dpo\"\npairs = \"label\"\n",
        place.path("model").display().to_string(),
        server.url
    );
    std::fs::write(place.path("recipe.toml"), recipe).unwrap();
    let run = "run recipe.toml --out run";
    let ran = place.run(run, "").ok();
    assert!(
        ran.err.contains("no reply to 2 questions; to the first of them: ") && ran.err.contains("HTTP 500")
    );
    let standing = || (place.read("run/inputs.json"), place.run(&format!("{run} --plan"), "").ok().out);
    let before = standing();
    let words: Vec<Vec<&str>> = before.1.lines().map(|line| line.split_whitespace().collect()).collect();
    let of = |name: &str| words.iter().find(|words| words[0] == name).unwrap()[2];
    assert_eq!([of("label"), of("dpo")], ["resumed", "done"], "{}", before.1);

    status.store(503, Ordering::SeqCst);
    let ran = place.run(run, "").ok();
    assert!(ran.err.contains("HTTP 503") && !ran.err.contains("dpo: "), "{}", ran.err);
    assert_eq!(standing().0, before.0);

    status.store(401, Ordering::SeqCst);
    let before = standing();
    let note = "label: its missing replies are still missing; the run stands as it did";
    place.run(run, "").fails(1, &["OPENAI_API_KEY", note]);
    assert_eq!(standing(), before);
    let report = place.run("report --run run", "").ok().err;
    assert!(!report.contains("not finished"), "{report}");

    status.store(200, Ordering::SeqCst);
    let ran = place.run(run, "").ok();
    assert!(ran.err.contains("label: done") && ran.err.contains("dpo: done"), "{}", ran.err);
}

/// Servers that show no log-probs: the record says so, and who goes on by it asks only what it lacks.
#[test]
fn votes_that_are_recorded_are_replayed_with_the_servers_off() {
    const PAIRS: usize = 100;
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(PAIRS));
    let silent =
        || Server::new(|_, body| (200, said(if asked(body).contains("A: left") { "B" } else { "A" })));
    let (one, other) = (silent(), silent());
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (first, second) = (free(), free());
    let [off, off_too] = [&first, &second].map(|free| format!("http://{}/v1", free.local_addr().unwrap()));
    drop((first, second));
    let label = |urls: &str| {
        let words = "--input pairs.jsonl --out out.jsonl --constitution c.toml --set votes=2 --retries 0";
        place.run(&format!("label --judge openai:m@{urls} {words}"), "").ok();
        (place.read("out.jsonl"), place.read("out.jsonl.labels.jsonl"))
    };
    // All but the record of answers.
    let forget = || {
        for entry in std::fs::read_dir(place.path("out.jsonl.run")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::remove_file(path).unwrap();
            }
        }
    };
    let labelled = label(&one.url);
    assert_eq!(one.asked(), 1 + PAIRS * 2 * 2);
    forget();
    assert!(label(&off) == labelled, "the labels differ");
    forget();
    let [file] = &std::fs::read_dir(place.path("out.jsonl.run/answers")).unwrap().collect::<Vec<_>>()[..]
    else {
        panic!()
    };
    let file = file.as_ref().unwrap().path();
    let lines: Vec<String> =
        std::fs::read_to_string(&file).unwrap().lines().map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, lines[..lines.len() - 10].concat()).unwrap();
    assert!(label(&other.url) == labelled, "the labels differ");
    assert_eq!(other.asked(), 10);
    // Several servers are asked what they show, and no first question at all.
    std::fs::remove_dir_all(place.path("out.jsonl.run")).unwrap();
    let labelled = label(&format!("{},{}", one.url, other.url));
    forget();
    assert!(label(&format!("{off},{off_too}")) == labelled, "the labels differ");
}

/// What measures a labeller is asked again as labels are.
#[test]
fn a_measured_pair_that_got_no_reply_is_asked_about_again() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("known.jsonl", &pairs(6));
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let server = Server::new(move |_, body| match which(body) {
        (2, true) if failing.load(Ordering::SeqCst) => (500, "{}".to_owned()),
        _ => (200, prefers_right(body)),
    });
    let recipe = format!(
        "name = \"t\"\nmodel = \"none\"\nconstitution = \"c.toml\"\n\
         [[stage]]\nkind = \"measure\"\njudge = \"openai:m@{}\"\ndata = [\"known.jsonl\"]\njudge_limits = {{ retries = 0 }}\n",
        server.url
    );
    std::fs::write(place.path("recipe.toml"), recipe).unwrap();
    let unlabelled = || {
        place.run("run recipe.toml --out run", "").ok();
        let summary: Value = serde_json::from_str(&place.read("run/summary.json")).unwrap();
        summary["measured"]["measure"][0]["ways"][0]["unlabelled"].clone()
    };
    assert_eq!(unlabelled(), json!({"no reply": 1}));
    let before = server.asked();
    fails.store(false, Ordering::SeqCst);
    assert_eq!((unlabelled(), server.asked()), (json!({}), before + 1));
    assert_eq!((unlabelled(), server.asked()), (json!({}), before + 1));
}

/// A server that refuses everything does not know the model, or a parameter: once that is mended, the same command asks again. One refusal
/// among replies is of its own item, and lasts.
#[test]
fn what_a_server_refused_altogether_is_asked_again_once_it_replies() {
    let place = Place::new();
    let constitution = "name = \"t\"\nversion = 1\ndescription = \"d\"\n[[revision]]\nid = \"kind\"\ncritique = \"Is it kind?\"\n\
                        revision = \"Make it warm.\"\n[[comparison]]\nid = \"kinder\"\nquestion = \"Which is kinder?\"\n";
    std::fs::write(place.path("c.toml"), constitution).unwrap();
    place.write("pairs.jsonl", &pairs(4));
    let answer =
        |at: usize| json!({"id": format!("a{at}"), "prompt": format!("ask {at} now"), "answer": "Go away."});
    place.write("answers.jsonl", &(0..4).map(answer).collect::<Vec<_>>());
    let mended = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&mended);
    let server = Server::new(move |_, body| {
        let text = body["messages"].to_string();
        match (now.load(Ordering::SeqCst) && which(body).0 != 2, text.contains("Make it warm.")) {
            (false, _) => (400, "{}".to_owned()),
            (true, true) => {
                (200, said("Please come in, and let us see what can be done about your question."))
            }
            (true, false) => (200, prefers_right(body)),
        }
    });
    let judge = format!("judge = \"openai:m@{}\"\njudge_limits = {{ retries = 0 }}\n", server.url);
    let recipe = format!(
        "name = \"t\"\nmodel = \"none\"\nconstitution = \"c.toml\"\n\
         [[stage]]\nkind = \"revise\"\nanswers = \"answers.jsonl\"\ncritique = \"none\"\nrevision = {{ max_new_tokens = 20 }}\n{judge}\
         [[stage]]\nkind = \"measure\"\ndata = [\"pairs.jsonl\"]\n{judge}"
    );
    std::fs::write(place.path("recipe.toml"), recipe).unwrap();
    let run = || place.run("run recipe.toml --out run", "").ok();
    let refused = run().err;
    assert!(refused.contains("revise: done") && refused.contains("measure: done"), "{refused}");
    for stage in ["revise", "measure"] {
        let warning = format!("{stage}: nothing was answered, and the server refused it");
        assert!(place.read("run/report.md").contains(&warning), "{warning}");
    }
    mended.store(true, Ordering::SeqCst);
    let asked = server.asked();
    let replied = run().err;
    assert_eq!(server.asked() - asked, 4 + 2 * 4, "{replied}");
    assert!(!place.read("run/report.md").contains("nothing was answered"));
    let (asked, again) = (server.asked(), run().err);
    assert_eq!(server.asked(), asked, "{again}");
}
