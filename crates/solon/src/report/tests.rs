//! The page as a whole: whatever the report holds, the page is well formed, has no scripts, and is complete.

use super::*;

/// A hostile string, used in every place that a model or a recipe can fill.
const HOSTILE: &str =
    "</style></title></pre><script>alert('x')</script>\"'><img src=x onerror=alert(1)>\0\u{202e}";

fn hostile() -> String {
    HOSTILE.to_owned()
}

/// A report with a hostile string in every text.
fn full() -> Report {
    let rate = |rate| Rate {
        rate,
        low: rate - 0.1,
        high: rate + 0.1,
        count: Some(3),
        total: 9,
        p_value: Some(0.01),
        against_origin: Some((hostile(), 0.2)),
    };
    let measure = |better, after| Measure {
        key: hostile(),
        scored: true,
        judged: true,
        name: hostile(),
        explanation: hostile(),
        better,
        most: 1.0,
        cells: vec![Some(rate(0.5)), Some(rate(after)), None],
    };
    Report {
        title: hostile(),
        verdict: vec![hostile()],
        notes: vec![hostile()],
        delivered: Some(Delivered {
            name: "dpo".into(),
            sha256: hostile(),
            lineage: vec![hostile()],
            evaluation: Some(hostile()),
        }),
        warnings: vec![hostile()],
        model: Model {
            name: hostile(),
            path: hostile(),
            sha256: hostile(),
            hub: Some(hostile()),
            license: Some(hostile()),
        },
        constitution: Constitution { name: hostile(), ..Default::default() },
        setting: Setting {
            solon_version: hostile(),
            name: hostile(),
            recipe: hostile(),
            isa: hostile(),
            precision: hostile(),
            started: hostile(),
            total_seconds: 12.0,
            peak_memory_bytes: 12,
            ..Default::default()
        },
        stages: vec![Stage {
            name: hostile(),
            kind: hostile(),
            what: hostile(),
            seconds: f64::NAN,
            items: 4,
            dropped: vec![(hostile(), 2)],
        }],
        evaluations: vec![Evaluation {
            name: hostile(),
            benchmark: hostile(),
            columns: vec![hostile(), "dpo".into(), hostile()],
            rows: vec![
                measure(Better::Lower, 0.1),
                measure(Better::Higher, 0.1),
                measure(Better::Neither, 0.1),
            ],
            method: hostile(),
            rule: hostile(),
            rule_agreement: Some(hostile()),
            costs: vec![
                None,
                Some(Cost {
                    divergence: 1.0,
                    low: 0.5,
                    high: f64::NAN,
                    divergence_per_token: 0.125,
                    perplexity: 4.25,
                }),
                None,
            ],
            judges: vec![Judge {
                name: hostile(),
                sets: vec![JudgedSet {
                    name: hostile(),
                    answers: 9,
                    unjudged: 1,
                    accuracy: Some(0.8),
                    kappa: None,
                    kappa_low: f64::NAN,
                }],
            }],
            categories: vec![Categories {
                heading: hostile(),
                measure: hostile(),
                better: Better::Lower,
                most: 1.0,
                rows: vec![Category { name: hostile(), cells: vec![Some(rate(0.5)), None, Some(rate(0.1))] }],
            }],
        }],
        curves: vec![Curve {
            title: hostile(),
            x_label: hostile(),
            y_label: hostile(),
            series: (0..9)
                .map(|_| Series { name: hostile(), points: vec![(0.0, 1.0), (1.0, 2.0)] })
                .collect(),
            note: Some(hostile()),
        }],
        labeller: Some(Labeller {
            verdict: hostile(),
            warning: Some(hostile()),
            rows: vec![(hostile(), hostile())],
            calibration: vec![CalibrationBin { mean_confidence: 0.9, accuracy: 0.4, count: 7 }],
        }),
        inferred: vec![Inferred {
            stage: hostile(),
            verdict: hostile(),
            method: hostile(),
            rows: vec![(0..Inferred::HEAD.len()).map(|_| hostile()).collect()],
        }],
        samples: vec![Sample {
            id: hostile(),
            kind: hostile(),
            category: hostile(),
            prompt: hostile(),
            answers: vec![
                Answer { column: hostile(), text: hostile(), verdict: hostile() },
                Answer { column: hostile(), text: String::new(), verdict: "refused".into() },
            ],
            rounds: vec![Round {
                principle: hostile(),
                asks: hostile(),
                critique: hostile(),
                revision: hostile(),
                dropped: Some(hostile()),
            }],
        }],
        trail: vec![Trail { id: hostile(), lines: vec![hostile(), hostile()] }],
    }
}

/// Reads tags as a browser would and fails if one is not closed, or is closed under another name.
fn check_balance(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>").expect("the page starts with its doctype");
    let mut open: Vec<&str> = Vec::new();
    let mut rest = body;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let end = rest.find('>').expect("every tag ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "before {:?}", rest.chars().take(80).collect::<String>());
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

fn tag_names(page: &str) -> Vec<&str> {
    let mut names: Vec<&str> = page
        .split('<')
        .skip(2)
        .filter_map(|tag| tag.trim_start_matches('/').split([' ', '>']).next())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn every_text_is_escaped() {
    let page = render(&full());
    check_balance(&page);
    assert!(!tag_names(&page).contains(&"img"));
    // The page's own script is its only one.
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (1, 1));
    // No tag ends inside an attribute: after removing quoted values, no event handler is left.
    for tag in page.split('<').skip(2) {
        let tag = tag.split('>').next().unwrap();
        let outside: String = tag.split('"').step_by(2).collect();
        assert!(!outside.contains("onerror"), "{tag}");
    }
    assert!(!page.contains('\0') && !page.contains('\u{202e}'));
    assert!(
        page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") && page.contains("⟨U+0000⟩⟨U+202E⟩")
    );
}

#[test]
fn an_empty_report_renders() {
    let page = render(&Report::default());
    check_balance(&page);
    assert!(page.contains("<h1>A Solon run</h1>"));
    assert!(!page.contains("id=\"samples\"") && !page.contains("NaN"));
}

#[test]
fn empty_parts_render() {
    let mut report = full();
    report.evaluations[0].columns.clear();
    report.curves[0].series.clear();
    report.labeller =
        Some(Labeller { verdict: String::new(), warning: None, rows: vec![], calibration: vec![] });
    report.samples[0].answers.clear();
    report.trail[0].lines.clear();
    check_balance(&render(&report));
}

#[test]
fn the_page_asks_for_nothing() {
    let page = render(&full());
    let requests = [
        "http://",
        "https://",
        "url(",
        "@import",
        "<link",
        "src=",
        "fetch",
        "XMLHttp",
        "import(",
        "eval(",
        "innerHTML",
    ];
    let own = page.replace(&html_escaped(HOSTILE), "").replace(&html_escaped(&figures::reason(HOSTILE)), "");
    for request in requests {
        assert!(!own.contains(request), "{request}");
    }
    assert!(page.contains("default-src &#39;none&#39;"));
}

/// Text as the page writes it.
fn html_escaped(text: &str) -> String {
    let mut html = Html::default();
    html.text(text);
    html.finish()
}

#[test]
fn the_policy_allows_the_pages_own_script_alone() {
    let page = render(&full());
    let script = page.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
    let hash = format!("sha256-{}", base64(&solon_data::files::sha256_bytes(script.as_bytes())));
    assert!(page.contains(&format!("script-src &#39;{hash}&#39;;")), "the policy should name {hash}");
}

/// A hash in hexadecimal as base64.
fn base64(hex: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = hex.chars().map(|c| format!("{:04b}", c.to_digit(16).unwrap())).collect();
    let digit = |six: &[u8]| {
        let six = format!("{:0<6}", std::str::from_utf8(six).unwrap());
        char::from(DIGITS[usize::from_str_radix(&six, 2).unwrap()])
    };
    let text: String = bits.as_bytes().chunks(6).map(digit).collect();
    format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4))
}

#[test]
fn the_filter_is_hidden_until_its_script_runs() {
    let page = render(&full());
    assert!(page.contains("<form id=\"filter\" class=\"filter\" hidden=\"\">"), "{page}");
    // Every sample says what the filter asks for.
    for name in ["data-kind", "data-category", "data-verdicts", "data-changed"] {
        assert_eq!(page.matches(&format!(" {name}=")).count(), 1, "{name}");
    }
    assert!(page.contains("data-changed=\"yes\""));
}

#[test]
fn a_revision_shows_its_principle_and_its_critique() {
    let round = Round {
        principle: "p-1".into(),
        asks: "Say what is wrong.".into(),
        critique: "It helps with theft.".into(),
        revision: "I can't help with that.".into(),
        dropped: None,
    };
    let sample = Sample { rounds: vec![round], ..full().samples.remove(0) };
    let page = render(&Report { samples: vec![sample], ..Default::default() });
    let mut rest = page.as_str();
    for text in
        ["<code>p-1</code>", "Say what is wrong.", "It helps with theft.", "I can&#39;t help with that."]
    {
        rest = &rest[rest.find(text).unwrap_or_else(|| panic!("{text} is missing or out of order"))..];
    }
}

#[test]
fn the_headline_says_what_the_delivered_model_changed() {
    let rate = |rate: f64, p_value| Rate {
        rate,
        low: rate - 0.05,
        high: rate + 0.05,
        count: Some(1),
        total: 9,
        p_value,
        against_origin: None,
    };
    let measure = |name: &str, better, after, p| Measure {
        key: name.into(),
        name: name.into(),
        explanation: String::new(),
        better,
        most: 1.0,
        scored: true,
        judged: false,
        cells: vec![Some(rate(0.5, None)), Some(rate(0.4, Some(0.5))), Some(rate(after, Some(p)))],
    };
    let evaluation = Evaluation {
        columns: ["base", "sft", "dpo"].map(String::from).to_vec(),
        rows: vec![
            measure("harm", Better::Lower, 0.1, 0.001),
            measure("help", Better::Higher, 0.52, 0.7),
            measure("over-refusal", Better::Lower, 0.9, 0.001),
        ],
        ..Default::default()
    };
    let delivered = Some(Delivered { name: "dpo".into(), ..Default::default() });
    let report = Report { evaluations: vec![evaluation], delivered, ..Default::default() };
    let sentence = "The delivered model is dpo. Compared with the base model, harm fell from 50.0% to 10.0% (better), \
                    help shows no clear change (50.0%, now 52.0%), and over-refusal rose from 50.0% to 90.0% (worse).";
    assert!(render(&report).contains(sentence));
    // Of several evaluations, the last of the benchmark that decided is told.
    let mut more = report.clone();
    let named = |name: &str, benchmark: &str| {
        let [name, benchmark] = [name, benchmark].map(String::from);
        Evaluation { name, benchmark, ..more.evaluations[0].clone() }
    };
    more.evaluations = vec![named("dev", "safety"), named("test", "safety"), named("facts", "mmlu")];
    let told = |evaluation: &str| {
        let delivered = Delivered { evaluation: Some(evaluation.into()), ..more.delivered.clone().unwrap() };
        headline::headline(&Report { delivered: Some(delivered), ..more.clone() }).unwrap()
    };
    assert!(told("dev").contains("the base model on test (safety), harm fell"), "{}", told("dev"));
    assert!(told("gone").contains("on facts (mmlu), harm fell"), "{}", told("gone"));
    assert_eq!(headline::headline(&Report { delivered: None, ..report }), None);
}

#[test]
fn markdown_and_card_hold_no_markup_of_a_models() {
    let report = full();
    for text in [markdown(&report), card(&report)] {
        // What stands in a fence is shown as it is; everywhere else a tag is escaped.
        let outside: Vec<&str> = text.split("```").step_by(2).collect();
        for part in outside {
            assert!(!part.replace("\\<", "").contains("<img") || part.starts_with("---\n"), "{part}");
        }
        assert!(!text.contains('\0') && !text.contains('\u{202e}') && !text.contains("NaN"), "{text}");
        assert!(text.contains(run::COMMAND));
    }
}

#[test]
fn a_card_says_only_what_is_known() {
    let card = card(&Report { model: Model { name: "m".into(), ..Default::default() }, ..full() });
    let front = card.strip_prefix("---\n").unwrap().split("\n---\n").next().unwrap();
    assert!(front.contains("pipeline_tag: \"text-generation\"") && front.contains("model-index:"), "{front}");
    assert!(!front.contains("license:") && !front.contains("base_model"), "{front}");
    // The delivered model's figure, not the base model's.
    assert!(front.contains("value: 0.1\n") && !front.contains("value: 0.5\n"), "{front}");
}

#[test]
fn every_link_has_its_target() {
    let page = render(&full());
    let targets: Vec<&str> =
        page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(
        targets,
        ["evaluation", "samples", "curves", "labeller", "principles", "trail", "stages", "run"]
    );
    for target in targets {
        assert_eq!(page.matches(&format!("id=\"{target}\"")).count(), 1);
    }
}

#[test]
fn no_figure_is_not_a_number() {
    let mut report = full();
    for measure in &mut report.evaluations[0].rows {
        measure.cells = vec![
            Some(Rate {
                rate: f64::NAN,
                low: f64::NAN,
                high: f64::INFINITY,
                count: Some(0),
                total: 0,
                p_value: Some(f64::NAN),
                against_origin: Some((String::new(), f64::NAN)),
            });
            3
        ];
    }
    report.setting.total_seconds = f64::INFINITY;
    report.curves[0].series[0].points.push((f64::NAN, f64::INFINITY));
    if let Some(labeller) = &mut report.labeller {
        labeller.calibration.push(CalibrationBin { mean_confidence: f64::NAN, accuracy: 0.0, count: 0 });
    }
    let page = render(&report);
    assert!(!page.contains("NaN") && !page.contains("inf%") && !page.contains("\"inf"));
}

#[test]
fn rendering_is_a_function_of_the_report() {
    let report = full();
    let back: Report =
        serde_json::from_str(&serde_json::to_string(&Report { stages: vec![], ..report }).unwrap()).unwrap();
    assert_eq!(render(&back), render(&Report { stages: vec![], ..full() }));
}

#[test]
fn samples_are_grouped_by_kind_in_order_of_appearance() {
    let sample = |kind: &str, id: &str| Sample {
        id: id.into(),
        kind: kind.into(),
        category: String::new(),
        prompt: String::new(),
        answers: vec![],
        rounds: vec![],
    };
    let samples = vec![sample("red-team", "one"), sample("helpful", "two"), sample("red-team", "three")];
    let page = render(&Report { samples, ..Default::default() });
    let place = |text: &str| page.find(&format!("<code>{text}</code>")).unwrap();
    assert!(place("one") < place("three") && place("three") < place("two"));
    assert_eq!(page.matches("<h3>red-team</h3>").count(), 1);
}
