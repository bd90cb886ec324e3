//! Null judges and held-out accuracy, against what can be worked out by hand.

use patarm::evaluation::{HeldOut, JudgedPair, PairJudgement, Summary, Tally, Unread, Vote, compare, nulls};
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
    let pair = |task: &str, chosen: &[Judgement], rejected: &[Judgement]| {
        JudgedPair::alone(task, [chosen.into(), rejected.into()], Vote::Mean)
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

fn valid(scores: &[f64]) -> Vec<Judgement> {
    scores.iter().map(|score| Judgement::Valid(Score::new(*score).expect("on the scale"))).collect()
}

#[test]
fn the_majority_is_the_most_frequent_score_and_of_several_their_mean() {
    let with_failure =
        |scores: &[f64]| [valid(scores), vec![Judgement::Failed(FailureKind::Silent)]].concat();
    let table: [(&[f64], f64, f64); 4] = [
        (&[7.0], 7.0, 7.0),
        (&[2.0, 9.0, 2.0, 9.9, 9.9, 9.9], 9.9, 427.0 / 60.0),
        (&[3.0, 8.0, 8.0, 3.0, 1.0], 5.5, 4.6),
        (&[1.0, 2.0, 4.5], 2.5, 2.5),
    ];
    for (scores, majority, mean) in table {
        let judgements = with_failure(scores);
        assert_eq!(Vote::Majority.score(&judgements), Some(majority));
        assert_eq!(Vote::Mean.score(&judgements), Some(mean));
    }
    assert_eq!(Vote::Majority.score(&with_failure(&[])), None);
    let (often_low, often_high) = (valid(&[3.0, 3.0, 10.0]), valid(&[4.0, 4.0, 1.0]));
    assert_eq!(Vote::Mean.standing(&often_low, &often_high), Standing::Win);
    assert_eq!(Vote::Majority.standing(&often_low, &often_high), Standing::Loss);
    assert_eq!(Vote::Majority.standing(&often_low, &[]), Standing::Unread);
}

/// Judgements of one order, as scores of the first and the second response; 0 stands for no verdict.
fn order(scores: &[[f64; 2]]) -> Vec<PairJudgement> {
    let one = |[first, second]: [f64; 2]| match (Score::new(first), Score::new(second)) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => Err(FailureKind::ScoreCount),
    };
    scores.iter().map(|scores| one(*scores)).collect()
}

#[test]
fn both_orders_count_alike_and_each_names_a_winner_of_its_own() {
    use Standing::{Loss, Tie, Unread, Win};
    type Order<'a> = &'a [[f64; 2]];
    // With the chosen response first, then with the rejected one first.
    let table: [(Order<'_>, Order<'_>, [Standing; 4]); 6] = [
        (&[[7.0, 4.0]], &[[4.0, 7.0]], [Win, Win, Win, Win]),
        (&[[7.0, 4.0]], &[[7.0, 4.0]], [Tie, Tie, Win, Loss]),
        (&[[7.0, 4.0]], &[[6.9, 4.0]], [Win, Tie, Win, Loss]),
        (&[[5.0, 5.0]], &[[9.0, 1.0]], [Loss, Loss, Tie, Loss]),
        (&[[7.0, 4.0]], &[[0.0, 0.0]], [Unread, Unread, Win, Unread]),
        // Three judgements against one weigh as much as one: margins 0.1 and -0.2.
        (&[[5.1, 5.0], [5.1, 5.0], [5.1, 5.0], [0.0, 0.0]], &[[5.2, 5.0]], [Loss, Tie, Win, Loss]),
    ];
    for (ahead, behind, expected) in table {
        let (ahead, behind) = (order(ahead), order(behind));
        for (vote, standing) in [(Vote::Mean, expected[0]), (Vote::Majority, expected[1])] {
            let [_, _, first, second] = expected;
            assert_eq!(
                vote.both_orders([&ahead, &behind]),
                (standing, [first, second]),
                "{ahead:?} {behind:?}"
            );
        }
    }
    let split = order(&[[5.0, 4.9], [5.0, 4.9], [1.0, 9.0]]);
    assert_eq!(Vote::Mean.both_orders([&split, &order(&[[5.0, 5.0]])]).0, Loss);
    assert_eq!(Vote::Majority.both_orders([&split, &order(&[[5.0, 5.0]])]).0, Win);
}

#[test]
fn exchanging_chosen_and_rejected_mirrors_the_standing_of_both_orders() {
    let scores = [1.0, 4.9, 5.0, 9.0, 0.0];
    let mirror = |standing| match standing {
        Standing::Win => Standing::Loss,
        Standing::Loss => Standing::Win,
        same => same,
    };
    for place in 0..5_usize.pow(4) {
        let score = |digit: u32| scores[place / 5_usize.pow(digit) % 5];
        let (one, other) = (order(&[[score(0), score(1)], [4.0, 4.1]]), order(&[[score(2), score(3)]]));
        for vote in [Vote::Mean, Vote::Majority] {
            let (there, [ahead, behind]) = vote.both_orders([&one, &other]);
            let (back, swapped) = vote.both_orders([&other, &one]);
            assert_eq!((back, swapped), (mirror(there), [mirror(behind), mirror(ahead)]));
        }
    }
}

#[test]
fn swapped_orders_show_a_judge_that_prefers_a_place() {
    let biased = [[7.0, 4.0]];
    let fair = |chosen: f64, rejected: f64| ([[chosen, rejected]], [[rejected, chosen]]);
    let judged = |task: &str, ahead: &[[f64; 2]], behind: &[[f64; 2]]| {
        JudgedPair::side_by_side(task, [&order(ahead), &order(behind)], Vote::Mean)
    };
    let (win, loss) = (fair(8.0, 2.0), fair(3.0, 9.0));
    let pairs = [
        judged("chat", &biased, &biased),
        judged("chat", &win.0, &win.1),
        judged("math", &loss.0, &loss.1),
        judged("math", &[[6.0, 6.0]], &[[6.0, 7.0]]),
        judged("math", &[[0.0, 0.0]], &biased),
    ];
    let held_out = HeldOut::of(&pairs);
    assert_eq!(held_out.overall.tally, Tally { wins: 2, ties: 1, losses: 1, unread: 1 });
    let summary = held_out.overall.summary(Unread::Wrong);
    assert_eq!((summary.judgements, summary.failure_rate), (10, Some(0.1)));
    assert_eq!(summary.flip_rate, Some(2.0 / 4.0), "one by its place, one from a tie");
    // Orders read: 9. Won by the first: 2 + 1 + 1 + (1/2 + 0) + 1.
    assert_eq!(summary.first_share, Some(5.5 / 9.0));
    let chat = held_out.per_task["chat"].summary(Unread::Wrong);
    assert_eq!((chat.flip_rate, chat.first_share), (Some(0.5), Some(0.75)));
    let text = serde_json::to_string(&summary).expect("a summary is plain data");
    assert_eq!(serde_json::from_str::<Summary>(&text).expect("it was just written"), summary);
}

#[test]
fn a_summary_of_one_response_at_a_time_says_nothing_of_orders() {
    let pair = JudgedPair::alone("chat", [valid(&[2.0]), valid(&[1.0])], Vote::Mean);
    let text =
        serde_json::to_string(&HeldOut::of([&pair]).overall.summary(Unread::Wrong)).expect("plain data");
    assert!(!text.contains("flip_rate") && !text.contains("first_share"), "{text}");
    assert!(serde_json::from_str::<Summary>(&text).is_ok());
}
