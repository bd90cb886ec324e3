//! Null judges and held-out accuracy, against what can be worked out by hand.

use patarm::evaluation::{HeldOut, JudgedPair, Summary, Tally, Unread, compare, nulls};
use patarm::preference::PreferencePair;
use patarm::reward::{Judgement, Score, Standing};
use patarm::rubric::FailureKind;
use patarm::tokenizer::{Message, Role};

fn pair(id: usize, task: &str, asked: &str, chosen: &str, rejected: &str) -> PreferencePair {
    PreferencePair {
        id: id.to_string(),
        task: task.into(),
        messages: vec![Message::new(Role::User, asked)],
        chosen: chosen.into(),
        rejected: rejected.into(),
    }
}

/// The label hangs on one word ("good" or "bad"), the rest of the text is noise of varying length.
fn worded(count: usize, offset: usize) -> Vec<PreferencePair> {
    let noise = |i: usize| format!("n{} m{} {}", i * 7 % 13, i * 5 % 11, "x ".repeat(i % 4));
    (offset..offset + count)
        .map(|i| {
            let (chosen, rejected) = (format!("good {}", noise(i)), format!("bad {}", noise(i * 3 + 1)));
            pair(i, ["chat", "math"][i % 2], "what", &chosen, &rejected)
        })
        .collect()
}

fn named(table: &[nulls::NullJudge], name: &str) -> nulls::NullJudge {
    table.iter().find(|judge| judge.name == name).expect("the table names every null judge").clone()
}

#[test]
fn length_judges_mirror_each_other_and_ties_stay_ties() {
    let pairs = [
        pair(0, "chat", "a", "long text", "short"),
        pair(1, "chat", "a", "ab", "éa"),
        pair(2, "math", "a", "1", "12"),
    ];
    let table = nulls::table(&[], &pairs, 0);
    assert_eq!(named(&table, "longest").overall, Tally { wins: 1, ties: 1, losses: 1, unread: 0 });
    assert_eq!(named(&table, "shortest").overall, Tally { wins: 1, ties: 1, losses: 1, unread: 0 });
    assert_eq!(named(&table, "longest").per_task["math"], Tally { losses: 1, ..Tally::default() });
}

#[test]
fn overlap_counts_distinct_words_of_the_conversation() {
    let pairs = [
        pair(0, "chat", "Where is Rome?", "Rome is in Italy", "bananas are yellow today"),
        pair(1, "chat", "red blue", "red red red x", "blue"),
    ];
    let table = nulls::table(&[], &pairs, 0);
    assert_eq!(named(&table, "word overlap").overall, Tally { wins: 1, losses: 1, ..Tally::default() });
    assert_eq!(named(&table, "shared words").overall, Tally { wins: 1, ties: 1, ..Tally::default() });
}

#[test]
fn position_and_chance_win_about_half_and_do_not_hang_on_row_order() {
    let mut pairs = worded(2000, 0);
    let table = nulls::table(&[], &pairs, 7);
    for name in ["first", "random"] {
        assert!((named(&table, name).accuracy() - 0.5).abs() < 0.05, "{name}");
    }
    assert_ne!(named(&table, "random"), named(&nulls::table(&[], &pairs, 8), "random"));
    pairs.reverse();
    assert_eq!(nulls::table(&[], &pairs, 7), table);
}

#[test]
fn exchanging_the_sides_exchanges_wins_and_losses() {
    let pairs = worded(200, 0);
    let swapped: Vec<_> = pairs
        .iter()
        .cloned()
        .map(|mut pair| {
            std::mem::swap(&mut pair.chosen, &mut pair.rejected);
            pair
        })
        .collect();
    let train = worded(100, 500);
    for (there, back) in nulls::table(&train, &pairs, 1).iter().zip(nulls::table(&train, &swapped, 1)) {
        assert_eq!(
            (there.overall.wins, there.overall.ties),
            (back.overall.losses, back.overall.ties),
            "{}",
            there.name
        );
    }
}

#[test]
fn regression_finds_a_telling_word_and_nothing_in_coin_flips() {
    let table = nulls::table(&worded(300, 1000), &worded(300, 0), 1);
    assert_eq!(named(&table, "n-gram regression").accuracy(), 1.0);
    let flipped = |count, offset| -> Vec<_> {
        let mut pairs = worded(count, offset);
        for (i, pair) in pairs.iter_mut().enumerate() {
            if ((i * i * 2_654_435_761) >> 7) & 1 == 1 {
                std::mem::swap(&mut pair.chosen, &mut pair.rejected);
            }
        }
        pairs
    };
    let blind =
        named(&nulls::table(&flipped(300, 1000), &flipped(300, 0), 1), "n-gram regression").accuracy();
    assert!((0.35..0.65).contains(&blind), "{blind}");
}

#[test]
fn regression_that_saw_no_pairs_calls_everything_a_tie() {
    let table = nulls::table(&[], &worded(10, 0), 1);
    assert_eq!(named(&table, "n-gram regression").overall, Tally { ties: 10, ..Tally::default() });
}

#[test]
fn ties_earn_half_and_unread_pairs_what_is_set() {
    let mut tally = Tally::default();
    for (chosen, rejected) in
        [(Some(2.0), Some(1.0)), (Some(1.0), Some(1.0)), (None, Some(1.0)), (Some(f64::NAN), Some(1.0))]
    {
        tally.count(compare(chosen, rejected));
    }
    assert_eq!(tally, Tally { wins: 1, ties: 1, losses: 0, unread: 2 });
    let value = |unread| tally.accuracy(unread).map(|accuracy| (accuracy.value, accuracy.n));
    assert_eq!(value(Unread::Wrong), Some((1.5 / 4.0, 4)));
    assert_eq!(value(Unread::Half), Some((2.5 / 4.0, 4)));
    assert_eq!(value(Unread::LeftOut), Some((1.5 / 2.0, 2)));
    assert_eq!((tally.tie_rate(), tally.unread_rate()), (0.25, 0.5));
    assert_eq!(Tally::default().accuracy(Unread::Wrong), None, "nothing counted is not an accuracy");
    let silent = Tally { unread: 3, ..Tally::default() };
    assert_eq!(silent.accuracy(Unread::LeftOut), None);
}

#[test]
fn credits_of_single_pairs_sum_to_the_accuracy() {
    let tally = Tally { wins: 5, ties: 3, losses: 2, unread: 4 };
    for unread in [Unread::Wrong, Unread::Half, Unread::LeftOut] {
        let standings = [(Standing::Win, 5), (Standing::Tie, 3), (Standing::Loss, 2), (Standing::Unread, 4)];
        let counted = standings
            .iter()
            .filter_map(|(standing, count)| Some((unread.credit(*standing)?, f64::from(*count))));
        let (sum, n) =
            counted.fold((0.0, 0.0), |(sum, n), (credit, count)| (sum + credit * count, n + count));
        assert_eq!(tally.accuracy(unread).expect("pairs count").value, sum / n);
    }
}

#[test]
fn held_out_counts_overall_and_by_task_with_failures_by_kind() {
    let valid = |score: f64| Judgement::Valid(Score::new(score).expect("on the scale"));
    let failed = Judgement::Failed;
    let pair = |task: &str, chosen: &[Judgement], rejected: &[Judgement]| JudgedPair {
        task: task.into(),
        chosen: chosen.into(),
        rejected: rejected.into(),
    };
    let pairs = [
        pair("chat", &[valid(7.0), valid(7.1)], &[valid(7.0), valid(7.0), failed(FailureKind::CutOff)]),
        pair("chat", &[valid(1.0)], &[valid(10.0)]),
        pair("math", &[valid(2.1)], &[valid(2.1)]),
        pair("math", &[failed(FailureKind::Doubled)], &[valid(5.0)]),
    ];
    let held_out = HeldOut::of(&pairs);
    assert_eq!(held_out.overall.tally, Tally { wins: 1, ties: 1, losses: 1, unread: 1 });
    assert_eq!(held_out.per_task["math"].tally, Tally { ties: 1, unread: 1, ..Tally::default() });
    let summary = held_out.overall.summary(Unread::Wrong);
    assert_eq!((summary.pairs, summary.judgements), (4, 11));
    assert_eq!(summary.failure_rate, Some(2.0 / 11.0));
    assert_eq!(summary.failure_rates[&FailureKind::CutOff], 1.0 / 11.0);
    assert_eq!(summary.saturation, Some(2.0 / 9.0));
    let text = serde_json::to_string(&summary).expect("a summary is plain data");
    assert_eq!(serde_json::from_str::<Summary>(&text).expect("it was just written"), summary);
    let nothing = HeldOut::default().overall.summary(Unread::Wrong);
    assert_eq!((nothing.accuracy, nothing.tie_rate, nothing.failure_rate), (None, None, None));
}
