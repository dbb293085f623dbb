use super::*;
use crate::constitution::ComparisonPrinciple;
use solon_draws::Draws;
use std::path::Path;

fn with(shots: Vec<Shot>) -> Constitution {
    let few_shot = shots
        .into_iter()
        .enumerate()
        .map(|(place, shot)| FewShot { id: format!("shot{place}"), shot })
        .collect();
    let kinder = ComparisonPrinciple {
        id: "kinder".to_owned(),
        question: "Which is kinder?".to_owned(),
        request: None,
        applies: Vec::new(),
        weight: 1.0,
    };
    Constitution {
        name: "t".to_owned(),
        version: 1,
        description: String::new(),
        revision: Vec::new(),
        comparison: vec![kinder],
        example: Vec::new(),
        few_shot,
        prompt: Vec::new(),
    }
}

fn texts(turns: &[Message]) -> Vec<(&str, &str)> {
    turns.iter().map(|turn| (&*turn.role, &*turn.content)).collect()
}

const TEXT: &str = "\n\nHuman: Hi<|im_end|>\n\nAssistant: Go.\n\nCritiqueRequest: Is it kind?\n\nCritique: No.\n\nRevisionRequest: \
                    Be kind.\n\nRevision: Welcome.\n\nHuman:";

#[test]
fn a_critique_is_asked_and_answered_as_the_question_is() {
    let chat = ["Hi<|im_end|>", "Go.", "Is it kind?", "No.", "Be kind.", "Welcome."];
    let mut messages = vec![Message::system("Be brief.")];
    messages.extend(chat.iter().enumerate().map(|(place, text)| match place % 2 {
        0 => Message::user(*text),
        _ => Message::assistant(*text),
    }));
    for shot in [Shot::Critique { text: TEXT.to_owned() }, Shot::CritiqueChat { messages }] {
        let constitution = with(vec![shot]);
        let turns = critique_turns(&constitution, true).unwrap();
        let question = "Read the request and the answer.\n\nRequest: Hi< |im_end|>\n\nAnswer: Go.";
        let asked = format!("{question}\n\nWrite a critique. Is it kind?");
        assert_eq!(
            texts(&turns),
            [
                ("user", asked.as_str()),
                ("assistant", "No."),
                ("user", "Write the revised answer. Be kind."),
                ("assistant", "Welcome.")
            ]
        );
        let directly = format!("{question}\n\nWrite the revised answer. Be kind.");
        let turns = critique_turns(&constitution, false).unwrap();
        assert_eq!(texts(&turns), [("user", directly.as_str()), ("assistant", "Welcome.")]);
    }
}

#[test]
fn several_turns_are_one_request() {
    let text = TEXT.replacen("\n\nHuman:", "\n\nHuman: One\n\nAssistant: Two\n\nHuman:", 1);
    let turns = critique_turns(&with(vec![Shot::Critique { text }]), true).unwrap();
    let shown = prompt_text(&[Message::user("One"), Message::assistant("Two"), Message::user("Hi")]);
    assert!(turns[0].content.contains(&format!("Request: {shown}< |im_end|>")), "{turns:?}");
}

#[test]
fn a_comparison_is_answered_by_the_letter_of_its_better_answer() {
    let shot = Shot::Comparison {
        prompt: "\n\nHuman: Hi\n\nAssistant:".to_owned(),
        chosen: vec![" Welcome.".to_owned()],
        rejected: vec!["Go.".to_owned()],
    };
    let constitution = with(vec![shot]);
    let settings = LabelSettings::of(Ask::Choice, Draws::new(0, "label"));
    let mut letters = Vec::new();
    for pair in 0..40 {
        let turns = comparison_turns(&constitution, &settings, &pair.to_string()).unwrap();
        let [asked, answered] = &turns[..] else { panic!("{turns:?}") };
        let (a, b) = if answered.content == "A" { ("Welcome.", "Go.") } else { ("Go.", "Welcome.") };
        let expected = comparison_request(&constitution.comparison[0], "Hi", a, b);
        assert_eq!((asked, answered.role.as_str()), (&expected[0], "assistant"));
        assert_eq!(comparison_turns(&constitution, &settings, &pair.to_string()).unwrap(), turns);
        letters.push(answered.content.clone());
    }
    assert!(letters.iter().filter(|letter| *letter == "A").count().abs_diff(20) < 12, "{letters:?}");
}

#[test]
fn what_cannot_be_asked_in_a_chat_is_refused_by_name() {
    let error = |shot| critique_turns(&with(vec![shot]), true).unwrap_err().to_string();
    for text in [
        "\n\nHuman: Hi\n\nAssistant: Go.\n\nCritiqueRequest: x Revision: y".to_owned(),
        TEXT.replace("\n\nAssistant: Go.", ""),
        format!("{TEXT} Again.\n\nAssistant: Go."),
    ] {
        let said = error(Shot::Critique { text: text.clone() });
        assert!(said.contains("`shot0`") && said.contains("hint: "), "{text}: {said}");
    }
    let short = vec![
        Message::user("Hi"),
        Message::assistant("Go."),
        Message::user("Is it?"),
        Message::assistant("No."),
    ];
    assert!(error(Shot::CritiqueChat { messages: short }).contains("`shot0`"));
    let chain = Shot::ComparisonCot { text: "{}".to_owned() };
    assert!(error(chain.clone()).contains("no few-shots of critiques"));
    let of = |ask| {
        let settings = LabelSettings::of(ask, Draws::new(0, "label"));
        comparison_turns(&with(vec![chain.clone()]), &settings, "p").unwrap_err().to_string()
    };
    assert!(of(Ask::Choice).contains("no few-shots of comparisons"), "{}", of(Ask::Choice));
    for ask in [Ask::ChoiceCot, Ask::Rate, Ask::Score, Ask::Apart] {
        assert!(of(ask).contains("ask = \"choice\""), "{}", of(ask));
    }
}

/// The published texts have all parts.
#[test]
fn the_published_few_shots_can_be_asked_in_a_chat() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cai-paper/prompts");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    }
    let constitution = Constitution::open(&folder).unwrap();
    let turns = critique_turns(&constitution, true).unwrap();
    assert_eq!(turns.len(), 5 * 4);
    assert!(turns[0].content.contains("Could you help me burn down my house"), "{:?}", turns[0]);
    assert!(
        turns
            .iter()
            .all(|turn| !turn.content.contains("CritiqueRequest") && !turn.content.contains("Human:"))
    );
    let settings = LabelSettings::of(Ask::Choice, Draws::new(0, "label"));
    assert_eq!(comparison_turns(&constitution, &settings, "p").unwrap().len(), 5 * 2);
}
