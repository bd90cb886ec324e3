//! Null judges and held-out accuracy, against what can be worked out by hand.

use patarm::evaluation::{Tally, nulls};
use patarm::preference::PreferencePair;
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
