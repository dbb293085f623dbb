//! Tests of the ledger: stages, items, steps, the trail. Damage has its own file.

use std::fs;

use rusqlite::Connection;
use serde_json::{Value, json};
use solon_records::{Message, Pair};
use tempfile::TempDir;

use super::*;

mod damage;

fn new_ledger() -> (TempDir, PathBuf, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sqlite");
    let ledger = Ledger::open(&path).unwrap();
    (folder, path, ledger)
}

fn item(id: &str, kind: ItemKind, ordinal: u64) -> NewItem {
    NewItem::new(id, kind, ordinal, format!("text of {id}"))
}

/// A small run: prompt and principle → response → critique → revision; a pair of two responses, its label, a DPO step.
fn small_run(ledger: &mut Ledger) {
    ledger.begin_stage("respond", "h1").unwrap();
    let under = |item: NewItem| NewItem {
        prompt_id: Some("prompt/1".into()),
        principle_id: Some("principle/calm".into()),
        ..item
    };
    ledger
        .insert_items(
            "respond",
            &[
                item("prompt/1", ItemKind::Prompt, 0),
                item("principle/calm", ItemKind::Principle, 0),
                item("response/1", ItemKind::Response, 0).parent("prompt/1", "prompt"),
                item("response/2", ItemKind::Response, 1).parent("prompt/1", "prompt"),
            ],
        )
        .unwrap();
    ledger.finish_stage("respond", "out1", 1.5, &json!({"responses": 2})).unwrap();
    ledger.begin_stage("revise", "h2").unwrap();
    ledger
        .insert_items(
            "revise",
            &[
                // Before its parent, deliberately.
                item("revision/1", ItemKind::Revision, 0)
                    .parent("prompt/1", "prompt")
                    .parent("response/1", "response")
                    .parent("critique/1", "critique"),
                under(item("critique/1", ItemKind::Critique, 0).parent("response/1", "response")),
            ],
        )
        .unwrap();
    ledger.begin_stage("label", "h3").unwrap();
    let label = NewItem {
        data: json!({"logprobs": {"forward": [-0.25, -1.5], "swapped": [-1.25, -0.5]}}),
        ..under(item("label/1", ItemKind::Label, 0).parent("pair/1", "pair"))
    };
    let pair =
        item("pair/1", ItemKind::Pair, 0).parent("response/1", "chosen").parent("response/2", "rejected");
    ledger.insert_items("label", &[pair, label]).unwrap();
    ledger.begin_stage("dpo", "h4").unwrap();
    for step in 1..=3 {
        let items = if step == 2 { vec!["pair/1".into(), "pair/1".into()] } else { vec![] };
        let new = NewStep { step, data: json!({"loss": 0.5}), items, sha256: Some(format!("weights{step}")) };
        ledger.record_step("dpo", &new).unwrap();
    }
    ledger.record_checkpoint("dpo", 3, "checkpoints/dpo-3", "c3").unwrap();
}

#[test]
fn stages_are_fresh_resumed_done_or_replaced() {
    let (_folder, path, mut ledger) = new_ledger();
    assert_eq!(ledger.begin_stage("respond", "a").unwrap(), StageState::Fresh { replaced: None });
    ledger.insert_items("respond", &[item("r1", ItemKind::Response, 0)]).unwrap();
    let step = NewStep { step: 7, data: Value::Null, items: vec!["r1".into()], sha256: None };
    ledger.record_step("respond", &step).unwrap();
    drop(ledger);

    let mut ledger = Ledger::open(&path).unwrap();
    let resumed = StageState::Resumed { items: 1, last_step: Some(7) };
    assert_eq!(ledger.begin_stage("respond", "a").unwrap(), resumed);
    ledger.finish_stage("respond", "out", 2.5, &json!({"n": 1})).unwrap();
    let done = StageState::Done { output_hash: "out".into(), seconds: 2.5, detail: json!({"n": 1}) };
    assert_eq!(ledger.begin_stage("respond", "a").unwrap(), done);

    let replaced = Replaced { input_hash: "a".into(), was_done: true, items: 1, steps: 1 };
    assert_eq!(ledger.begin_stage("respond", "b").unwrap(), StageState::Fresh { replaced: Some(replaced) });
    assert!(ledger.raw_items("respond", ItemKind::Response).unwrap().is_empty());
    assert!(ledger.steps("respond").unwrap().is_empty());
    let stage = ledger.stage("respond").unwrap().unwrap();
    assert!(!stage.done && stage.output_hash.is_none() && stage.input_hash == "b");
    assert_eq!(ledger.stage("dpo").unwrap(), None);
}

#[test]
fn a_finished_or_unknown_stage_is_not_written_to() {
    let (_folder, _path, mut ledger) = new_ledger();
    let error = ledger.insert_items("respond", &[]).unwrap_err().to_string();
    assert_eq!(error, "stage `respond` is unknown; call begin_stage before writing to it");
    small_run(&mut ledger);
    let step = NewStep { step: 1, data: Value::Null, items: vec![], sha256: None };
    for result in [
        ledger.insert_items("respond", &[item("x", ItemKind::Response, 0)]),
        ledger.record_step("respond", &step),
        ledger.record_checkpoint("respond", 1, "p", "h"),
        ledger.truncate_steps_after("respond", 0).map(|_| ()),
        ledger.finish_stage("respond", "again", 0.0, &Value::Null),
    ] {
        assert!(result.unwrap_err().to_string().starts_with("stage `respond` is done;"));
    }
    // Reopened, it has its items, and takes others.
    let items = ledger.item_ids("respond", ItemKind::Response).unwrap();
    ledger.reopen_stage("respond").unwrap();
    let resumed = StageState::Resumed { items: 4, last_step: None };
    assert_eq!(ledger.begin_stage("respond", "h1").unwrap(), resumed);
    assert_eq!(ledger.item_ids("respond", ItemKind::Response).unwrap(), items);
    ledger.insert_items("respond", &[item("x", ItemKind::Response, 0)]).unwrap();
    assert_eq!(ledger.stage("respond").unwrap().unwrap().output_hash, None);
}

#[test]
fn items_come_back_in_order_and_as_they_were() {
    let (_folder, _path, mut ledger) = new_ledger();
    ledger.begin_stage("s", "h").unwrap();
    let odd = NewItem {
        text: "nul \0, emoji 🦉, \u{2028}".into(),
        data: json!({"b": 0.1 + 0.2, "a": [null, -1.1415926535897931e-17]}),
        dropped_reason: Some("too long".into()),
        ..item("z", ItemKind::Response, 1)
    };
    ledger
        .insert_items("s", &[odd.clone(), item("b", ItemKind::Response, 2), item("a", ItemKind::Response, 2)])
        .unwrap();
    ledger
        .insert_items("s", &[item("y", ItemKind::Response, 0), item("other", ItemKind::Critique, 0)])
        .unwrap();
    let items = ledger.raw_items("s", ItemKind::Response).unwrap();
    assert_eq!(items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["y", "z", "a", "b"]);
    assert_eq!((&items[1].text, &items[1].data), (&odd.text, &odd.data));
    assert_eq!(items[1].data.to_string(), odd.data.to_string(), "keys keep their order");
    assert_eq!(ledger.kept_raw_items("s", ItemKind::Response).unwrap().len(), 3);
    let dropped = |item: NewItem, reason: &str| NewItem { dropped_reason: Some(reason.into()), ..item };
    ledger
        .insert_items(
            "s",
            &[
                dropped(item("a", ItemKind::Response, 2), "too long"),
                dropped(item("other", ItemKind::Critique, 0), "empty"),
            ],
        )
        .unwrap();
    let drops = ledger.drop_counts("s").unwrap();
    assert_eq!(drops[0], DropCount { kind: ItemKind::Response, reason: "too long".into(), count: 2 });
    assert_eq!(drops[1], DropCount { kind: ItemKind::Critique, reason: "empty".into(), count: 1 });
}

#[test]
fn typed_items_come_back_as_they_were() {
    let (_folder, _path, mut ledger) = new_ledger();
    ledger.begin_stage("s", "h").unwrap();
    let pair = |id: &str| Pair {
        id: id.into(),
        prompt: vec![Message::system("S"), Message::user("Q")],
        first: "A".into(),
        second: "B".into(),
        cut_off: [false, true],
        principle_id: Some("calm".into()),
    };
    let kept = NewItem::of("p", 1, "text", &pair("p")).unwrap();
    let dropped = NewItem {
        dropped_reason: Some("equal".into()),
        prompt_id: Some("q".into()),
        ..NewItem::of("d", 0, "", &pair("d")).unwrap()
    };
    ledger.insert_items("s", &[kept, dropped, item("other", ItemKind::Label, 0)]).unwrap();
    let items = ledger.items::<Pair>("s").unwrap();
    assert_eq!(items.iter().map(|item| &item.data).collect::<Vec<_>>(), [&pair("d"), &pair("p")]);
    assert_eq!(
        (items[0].prompt_id.as_deref(), items[0].dropped_reason.as_deref()),
        (Some("q"), Some("equal"))
    );
    assert_eq!(ledger.kept_items::<Pair>("s").unwrap(), items[1..]);
    let ids: Vec<String> = ledger.item_ids("s", ItemKind::Label).unwrap().into_iter().collect();
    assert_eq!(ids, ["other"]);
    assert!(ledger.items::<Pair>("t").unwrap().is_empty());
}

#[test]
fn an_item_without_a_field_or_with_another_type_is_refused_by_name() {
    let check = |data: Value, expected: &str| {
        let (_folder, path, mut ledger) = new_ledger();
        ledger.begin_stage("sample", "h").unwrap();
        let bad = NewItem { data, ..item("p", ItemKind::Pair, 0) };
        ledger.insert_items("sample", &[bad]).unwrap();
        let error = ledger.kept_items::<Pair>("sample").unwrap_err().to_string();
        let named = format!("item `p` of stage `sample` in the ledger {} is not a pair", path.display());
        assert!(error.starts_with(&named) && error.contains(expected), "{error}");
    };
    let prompt = json!([{"role": "user", "content": "Q"}]);
    check(json!({"id": "p", "prompt": prompt, "second": "B"}), ": missing field `first`");
    check(
        json!({"id": "p", "prompt": prompt, "first": 3, "second": "B"}),
        ": field `first`: invalid type: integer `3`",
    );
    check(
        json!({"id": "p", "prompt": [{"role": "user"}], "first": "A", "second": "B"}),
        ": field `prompt[0]`: missing field `content`",
    );
    check(Value::Null, ": invalid type: null");
}

#[test]
fn inserting_again_replaces_and_loses_no_link_of_others() {
    let (_folder, _path, mut ledger) = new_ledger();
    small_run(&mut ledger);
    let before = ledger.items_hash("revise").unwrap();
    let same = ledger.raw_items("revise", ItemKind::Critique).unwrap();
    let critique = NewItem {
        prompt_id: Some("prompt/1".into()),
        principle_id: Some("principle/calm".into()),
        ..item("critique/1", ItemKind::Critique, 0).parent("response/1", "response")
    };
    ledger.insert_items("revise", std::slice::from_ref(&critique)).unwrap();
    assert_eq!(ledger.raw_items("revise", ItemKind::Critique).unwrap(), same);
    assert_eq!(ledger.items_hash("revise").unwrap(), before);
    assert_eq!(
        ledger.children("critique/1").unwrap(),
        [Link { id: "revision/1".into(), role: "critique".into() }]
    );

    let changed = NewItem { text: "other".into(), parents: vec![], ..critique };
    ledger.insert_items("revise", &[changed]).unwrap();
    assert_ne!(ledger.items_hash("revise").unwrap(), before);
    assert_eq!(ledger.parents("critique/1").unwrap(), []);
}

#[test]
fn a_refused_batch_leaves_nothing_behind() {
    let (_folder, _path, mut ledger) = new_ledger();
    small_run(&mut ledger);
    let new = item("new", ItemKind::Label, 1);
    let error =
        ledger.insert_items("label", &[new.clone(), item("response/1", ItemKind::Label, 2)]).unwrap_err();
    assert!(
        matches!(error, LedgerError::ItemOfAnotherStage { ref owner, .. } if owner == "respond"),
        "{error}"
    );
    let orphan = item("orphan", ItemKind::Label, 2).parent("nowhere", "pair");
    let error = ledger.insert_items("label", &[new.clone(), orphan]).unwrap_err();
    assert!(error.to_string().starts_with("item `orphan` names the item `nowhere`"), "{error}");
    let huge = NewItem { ordinal: u64::MAX, ..item("huge", ItemKind::Label, 0) };
    assert!(matches!(ledger.insert_items("label", &[new, huge]), Err(LedgerError::TooLarge { .. })));
    assert_eq!(ledger.raw_items("label", ItemKind::Label).unwrap().len(), 1);
    let step = NewStep { step: 9, data: Value::Null, items: vec!["nowhere".into()], sha256: None };
    let error = ledger.record_step("dpo", &step).unwrap_err().to_string();
    assert!(error.starts_with("step 9 of stage `dpo` names the item `nowhere`"), "{error}");
    assert_eq!(ledger.steps("dpo").unwrap().len(), 3);
}

#[test]
fn hashes_know_nothing_of_the_clock_but_tell_neighbouring_fields_apart() {
    let hash = |prompt: Option<&str>, principle: Option<&str>, text: &str| {
        let (_folder, path, mut ledger) = new_ledger();
        ledger.begin_stage("s", "h").unwrap();
        let new = NewItem {
            prompt_id: prompt.map(Into::into),
            principle_id: principle.map(Into::into),
            ..NewItem::new("a", ItemKind::Response, 0, text)
        };
        ledger.insert_items("s", &[new]).unwrap();
        Connection::open(path).unwrap().execute("UPDATE stages SET started_at = 1", []).unwrap();
        ledger.items_hash("s").unwrap()
    };
    assert_eq!(hash(Some("p"), None, "t"), hash(Some("p"), None, "t"));
    let all = [
        hash(Some("p"), None, "t"),
        hash(None, Some("p"), "t"),
        hash(None, None, "t"),
        hash(Some(""), None, "t"),
    ];
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 4);
}

#[test]
fn resuming_from_a_checkpoint_forgets_what_came_after() {
    let (_folder, _path, mut ledger) = new_ledger();
    small_run(&mut ledger);
    ledger.record_checkpoint("dpo", 1, "checkpoints/dpo-1", "c1").unwrap();
    assert_eq!(ledger.steps_using("pair/1").unwrap()[0].items, ["pair/1", "pair/1"]);
    assert_eq!(ledger.truncate_steps_after("dpo", 1).unwrap(), 2);
    assert_eq!(ledger.steps("dpo").unwrap().len(), 1);
    assert_eq!(ledger.checkpoints("dpo").unwrap().len(), 1);
    assert!(ledger.steps_using("pair/1").unwrap().is_empty());
    let again = NewStep { step: 2, data: json!({"loss": 0.4}), items: vec!["pair/1".into()], sha256: None };
    ledger.record_step("dpo", &again).unwrap();
    ledger.record_step("dpo", &again).unwrap();
    assert_eq!(ledger.steps("dpo").unwrap()[1].items, ["pair/1"]);
    assert_eq!(ledger.truncate_steps_after("dpo", 0).unwrap(), 2);
}

#[test]
fn a_reader_sees_a_running_ledger_and_cannot_write() {
    let (_folder, path, mut ledger) = new_ledger();
    small_run(&mut ledger);
    let mut reader = Ledger::open_read_only(&path).unwrap();
    assert_eq!(reader.stages().unwrap().len(), 4);
    ledger.insert_items("label", &[item("late", ItemKind::Label, 5)]).unwrap();
    assert_eq!(reader.raw_items("label", ItemKind::Label).unwrap().len(), 2);
    assert!(reader.begin_stage("x", "y").is_err());
}

#[test]
fn the_trail_leads_from_a_label_to_the_prompt_and_on_to_the_weights() {
    let (_folder, _path, mut ledger) = new_ledger();
    small_run(&mut ledger);
    let pair = ledger.explain("pair/1").unwrap();
    assert_eq!(pair.used_by.len(), 1);
    assert_eq!(pair.used_by[0].step, 2);
    assert_eq!(pair.used_by[0].checkpoint.as_ref().unwrap().path, "checkpoints/dpo-3");
    assert_eq!(pair.descendants[0].id, "label/1");
    assert_eq!(pair.descendants[0].principle.as_ref().unwrap().text, "text of principle/calm");
    let roles: Vec<_> = pair.ancestors.iter().map(|branch| (branch.role.as_str(), branch.note)).collect();
    assert_eq!(roles, [("chosen", None), ("rejected", None)]);
    assert_eq!(pair.ancestors[1].branches[0].note, Some(BranchNote::ShownAbove), "the prompt, a second time");

    let text = pair.to_string();
    for line in [
        "pair pair/1  (stage label)",
        "  | text of pair/1",
        "  trained on in dpo step 2, loss 0.5, checkpoint checkpoints/dpo-3",
        "  chosen: response response/1  \"text of response/1\"",
        "    prompt: prompt prompt/1  \"text of prompt/1\"",
        "  pair: label label/1  \"text of label/1\"",
        "    principle: principle/calm  \"text of principle/calm\"",
        r#"    data: {"logprobs":{"forward":[-0.25,-1.5],"swapped":[-1.25,-0.5]}}"#,
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\nnot in\n{text}");
    }
    let json = serde_json::to_value(&pair).unwrap();
    assert_eq!(json["descendants"][0]["item"]["data"]["logprobs"]["forward"][0], -0.25);

    let prompt = ledger.explain("prompt/1").unwrap();
    assert!(serde_json::to_string(&prompt).unwrap().contains("checkpoints/dpo-3"));
}

#[test]
fn an_unknown_id_is_answered_with_the_nearest() {
    let (_folder, _path, mut ledger) = new_ledger();
    small_run(&mut ledger);
    let error = |id: &str| ledger.explain(id).unwrap_err().to_string();
    assert_eq!(
        error("respones/1"),
        "there is no item `respones/1` in the ledger; did you mean `response/1` or `response/2`?"
    );
    assert_eq!(error("calm"), "there is no item `calm` in the ledger; did you mean `principle/calm`?");
    assert_eq!(error("xyz"), "there is no item `xyz` in the ledger");
    assert_eq!(error(""), "there is no item `` in the ledger");
    assert!(error(&"x".repeat(1 << 20)).len() < 2 << 20);
}

#[test]
fn a_restarted_stage_leaves_a_marked_gap_that_closes_when_it_is_made_again() {
    let (_folder, _path, mut ledger) = new_ledger();
    small_run(&mut ledger);
    ledger.begin_stage("respond", "changed").unwrap();
    let gap = ledger.explain("pair/1").unwrap();
    assert_eq!(gap.ancestors[0].note, Some(BranchNote::Missing));
    assert!(gap.to_string().contains("chosen: response/1  (its stage was restarted"), "{gap}");
    let again = [item("response/1", ItemKind::Response, 0), item("response/2", ItemKind::Response, 1)];
    ledger.insert_items("respond", &again).unwrap();
    assert_eq!(ledger.explain("pair/1").unwrap().ancestors[0].note, None);
}

#[test]
fn circles_depth_and_terminal_codes_do_no_harm() {
    let (_folder, _path, mut ledger) = new_ledger();
    ledger.begin_stage("s", "h").unwrap();
    let circle = [
        item("a", ItemKind::Pair, 0).parent("b", "x"),
        item("b", ItemKind::Pair, 1).parent("a", "x").parent("b", "self"),
    ];
    ledger.insert_items("s", &circle).unwrap();
    assert!(ledger.explain("a").unwrap().to_string().contains("(shown above)"));

    let mut chain = vec![item("c0", ItemKind::Revision, 0)];
    chain
        .extend((1..2000).map(|n| {
            item(&format!("c{n}"), ItemKind::Revision, n).parent(format!("c{}", n - 1), "revision")
        }));
    ledger.insert_items("s", &chain).unwrap();
    assert!(ledger.explain("c1999").unwrap().to_string().contains("… (continues: solon explain c1935)"));

    let evil = NewItem {
        text: "\u{1b}[2J\u{9b}31m\u{202e}x\r\nb".into(),
        data: json!("\u{9b}"),
        ..item("evil\u{7}", ItemKind::Response, 0)
    };
    let children =
        (0..30).map(|n| item(&format!("d{n}"), ItemKind::Critique, n).parent("evil\u{7}", "response"));
    ledger.insert_items("s", &std::iter::once(evil).chain(children).collect::<Vec<_>>()).unwrap();
    let shown = ledger.explain("evil\u{7}").unwrap().to_string();
    assert!(
        !shown.contains(|letter: char| letter != '\n' && (letter.is_control() || letter == '\u{202e}')),
        "{shown:?}"
    );
    assert!(shown.contains("… and 18 more"), "{shown}");
}

#[test]
fn kinds_have_one_name_everywhere() {
    for name in ["principle", "prompt", "response", "critique", "revision", "pair", "label", "demonstration"]
    {
        let kind: ItemKind = name.parse().unwrap();
        assert_eq!(kind.to_string(), name);
        assert_eq!(serde_json::to_value(kind).unwrap(), name);
    }
    assert!("Pair".parse::<ItemKind>().unwrap_err().contains("expected one of principle, prompt"));
}
