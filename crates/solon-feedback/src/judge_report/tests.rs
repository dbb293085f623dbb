//! The report on made-up labellers.

use super::*;
use crate::label::tests::compared;
use crate::label::{Ask, LabelSettings};
use solon_draws::Draws;
use solon_records::{Message, Pair};

/// A label whose two orders give these probabilities of the first answer being better.
fn label(place: usize, ab: f64, ba: f64, lengths: [usize; 2]) -> Label {
    let [first, second] = lengths.map(|n| "x".repeat(n));
    let (id, prompt) = (format!("p{place}"), vec![Message::user("q")]);
    let pair = Pair { id, prompt, first, second, cut_off: [false; 2], principle_id: None };
    let evidence = compared([ab.ln(), (1.0 - ab).ln()], [(1.0 - ba).ln(), ba.ln()]);
    Label::new(&pair, Some("q".into()), evidence, &LabelSettings::of(Ask::Choice, Draws::new(0, "label")))
}

/// `right` known pairs judged correctly and `wrong` judged wrongly, all with confidence `p`; the longer answer is right
/// on half of them.
fn known(right: usize, wrong: usize, p: f64) -> Vec<KnownLabel> {
    let make = |place: usize| {
        let first_is_better = place.is_multiple_of(2);
        let says_first = first_is_better == (place < right);
        let q = if says_first { p } else { 1.0 - p };
        let lengths = if place % 4 < 2 { [5, 3] } else { [3, 5] };
        KnownLabel { label: label(place, q, q, lengths), first_is_better }
    };
    (0..right + wrong).map(make).collect()
}

#[test]
fn a_good_labeller_is_trustworthy() {
    let report = JudgeReport::new(&known(90, 10, 0.9), 0, &[]);
    let measures = report.known.as_ref().unwrap();
    assert_eq!((measures.correct, measures.pairs), (90, 100));
    // Wilson's interval.
    let [low, high] = measures.accuracy_interval;
    assert!((low - 0.8256).abs() < 5e-5 && (high - 0.9448).abs() < 5e-5, "{low} {high}");
    assert!(measures.expected_calibration_error < 1e-9, "{measures:?}");
    assert_eq!(measures.longer_answer_accuracy, 0.5);
    assert_eq!(measures.bins.iter().map(|bin| bin.pairs).sum::<usize>(), 100);
    assert_eq!(report.verdict, Verdict::Trustworthy, "{report}");
}

#[test]
fn calibration_error_is_the_gap_between_confidence_and_accuracy() {
    let report = JudgeReport::new(&known(80, 20, 0.99), 0, &[]);
    let error = report.known.as_ref().unwrap().expected_calibration_error;
    assert!((error - 0.19).abs() < 1e-9, "{error}");
    assert_eq!(report.verdict, Verdict::Weak);
    assert!(report.warning.contains("surer than it is right, by 19 %"), "{report}");
}

/// By hand: one bin of 100 pairs with p = 0.9 of which 80 are so, and one of 100 with p = 0.1 of which 20 are so: both gaps
/// are 0.1, and chance adds 0.8 · 0.2 / 99 to each square.
#[test]
fn the_calibration_error_without_what_chance_adds() {
    let report = JudgeReport::new(&known(160, 40, 0.9), 0, &[]);
    let measures = report.known.unwrap();
    assert!((measures.expected_calibration_error - 0.1).abs() < 1e-9);
    let expected = (0.01_f64 - 0.16 / 99.0).sqrt();
    assert!((measures.debiased_calibration_error.unwrap() - expected).abs() < 1e-9, "{measures:?}");
    assert!((measures.kappa.unwrap() - 0.6).abs() < 1e-9, "{measures:?}");
    assert_eq!(measures.by_principle["q"].count, 160);
    // Perfectly calibrated but for chance.
    let report = JudgeReport::new(&known(18, 2, 0.9), 0, &[]);
    assert_eq!(report.known.unwrap().debiased_calibration_error, Some(0.0));
    // One pair in a bin says nothing.
    assert_eq!(JudgeReport::new(&known(1, 0, 0.9), 0, &[]).known.unwrap().debiased_calibration_error, None);
}

#[test]
fn what_has_no_label_counts_against_the_labeller() {
    let report = JudgeReport::new(&known(40, 0, 0.95), 160, &[]);
    assert!(!report.beats_chance() && report.verdict == Verdict::Weak, "{report}");
    assert!(report.warning.contains("no label on 160 of 200"), "{report}");
    assert!(JudgeReport::new(&known(40, 0, 0.95), 2, &[]).beats_chance());
}

#[test]
fn a_careful_judge_is_trusted_and_a_tie_agrees_with_nothing() {
    // Right on all, by five votes of five each.
    let report = JudgeReport::new(&known(100, 0, 0.783), 0, &[]);
    assert_eq!(report.verdict, Verdict::Trustworthy, "{report}");
    // Ties on every pair whose second answer is better.
    let mut half = known(100, 0, 0.9);
    half.iter_mut().filter(|known| !known.first_is_better).for_each(|known| known.label.probability = 0.5);
    let kappa = JudgeReport::new(&half, 0, &[]).known.unwrap().kappa.unwrap();
    assert!((kappa - 1.0 / 3.0).abs() < 1e-9, "{kappa}");
}

#[test]
fn a_guesser_is_near_chance_and_so_is_a_small_sample() {
    for (right, wrong) in [(50, 50), (58, 42), (5, 1)] {
        let report = JudgeReport::new(&known(right, wrong, 0.6), 0, &[]);
        assert_eq!(report.verdict, Verdict::NearChance, "{report}");
        assert!(report.warning.contains("which may be chance"), "{report}");
    }
    assert_eq!(JudgeReport::new(&known(65, 35, 0.65), 0, &[]).verdict, Verdict::Weak);
}

#[test]
fn chance_is_beaten_by_measured_accuracy_alone() {
    assert!(JudgeReport::new(&known(65, 35, 0.65), 0, &[]).beats_chance());
    for (right, wrong) in [(52, 48), (35, 65), (2, 0)] {
        assert!(
            !JudgeReport::new(&known(right, wrong, 0.65), 0, &[]).beats_chance(),
            "{right} of {}",
            right + wrong
        );
    }
    let labels = [label(0, 0.9, 0.1, [4, 4])];
    assert!(!JudgeReport::new(&[], 0, &labels).beats_chance(), "nothing was measured");
}

#[test]
fn position_bias_on_the_pairs_at_hand_outweighs_known_accuracy() {
    let mut labels: Vec<Label> = (0..6).map(|place| label(place, 0.9, 0.1, [4, 4])).collect();
    labels.extend((6..10).map(|place| label(place, 0.8, 0.8, [4, 4])));
    let report = JudgeReport::new(&known(95, 5, 0.95), 0, &labels);
    let measures = report.unlabelled.as_ref().unwrap();
    assert_eq!(measures.swap, Some(Swap { consistency: 0.4, always_a: 0.6, always_b: 0.0 }));
    assert_eq!(measures.prefers_longer, None);
    assert_eq!(report.verdict, Verdict::NearChance);
    assert!(report.to_string().contains("A in both 60.0 %"), "{report}");
}

#[test]
fn accuracy_that_length_explains_is_not_trusted() {
    let mut all = known(95, 5, 0.95);
    for one in &mut all {
        one.label.characters = if one.first_is_better { [9, 4] } else { [4, 9] };
    }
    let report = JudgeReport::new(&all, 0, &[]);
    assert_eq!(report.verdict, Verdict::Weak);
    assert!(report.warning.contains("so it may only prefer long answers"), "{report}");
    // On the pairs to be labelled it chooses the longer answer half of the time, so it does not judge by length.
    let lengths = |place: usize| if place.is_multiple_of(2) { [9, 4] } else { [4, 9] };
    let labels: Vec<Label> = (0..20).map(|place| label(place, 0.9, 0.9, lengths(place))).collect();
    let report = JudgeReport::new(&all, 0, &labels);
    assert_eq!(report.unlabelled.as_ref().unwrap().prefers_longer, Some(0.5));
    assert_eq!(report.verdict, Verdict::Trustworthy, "{report}");
}

#[test]
fn without_known_pairs_or_labels_nothing_is_believed() {
    let labels: Vec<Label> = (0..50).map(|place| label(place, 0.9, 0.9, [4, 4])).collect();
    let report = JudgeReport::new(&[], 0, &labels);
    assert_eq!(report.verdict, Verdict::Weak);
    assert!(report.warning.contains("not tested"), "{report}");
    assert_eq!(JudgeReport::new(&[], 0, &[]).verdict, Verdict::NearChance);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "weak");
}

#[test]
fn rated_answers_have_no_order_and_are_believed_by_their_accuracy() {
    let rate = |known: &mut KnownLabel| {
        let odds = (known.label.probability / (1.0 - known.label.probability)).ln();
        for (evidence, (question, odds)) in
            known.label.evidence.iter_mut().zip([("first", odds), ("second", 0.0)])
        {
            (evidence.question, evidence.log_probs) = (question.to_owned(), vec![odds, 0.0]);
        }
    };
    let mut all = known(90, 10, 0.9);
    all.iter_mut().for_each(rate);
    let report = JudgeReport::new(&all, 0, &[all[0].label.clone()]);
    assert_eq!(report.known_labels.as_ref().unwrap().swap, None);
    assert_eq!(report.verdict, Verdict::Trustworthy, "{report}");
    assert!(!report.to_string().contains("order") && !report.warning.contains("places"), "{report}");
    let mut guesses = known(52, 48, 0.6);
    guesses.iter_mut().for_each(rate);
    assert_eq!(JudgeReport::new(&guesses, 0, &[]).verdict, Verdict::NearChance);
}
