//! The embedded default's texts: what is held out stays held out, and nothing but the pair's order tells the truth.

use std::collections::HashSet;

use patarm::demo::{self, Split, TASKS};
use patarm::evaluation::nulls;
use patarm::preference::PreferencePair;
use patarm::rubric::{Ending, Verdict};
use patarm::tokenizer::ChatOptions;

const SEEDS: [u64; 3] = [1, 2, 3];

/// How a response opens and closes: its first and last sentences around the one that answers.
fn filler(response: &str) -> String {
    let ends: Vec<usize> = response
        .char_indices()
        .filter(|&(at, c)| matches!(c, '.' | '!') && response[at + 1..].starts_with([' ']))
        .map(|(at, _)| at + 1)
        .collect();
    assert!(ends.len() >= 2, "opener, answer and closer are sentences of their own in {response:?}");
    format!("{}{}", &response[..ends[0]], &response[*ends.last().expect("there are two")..])
}

fn responses(pairs: &[PreferencePair]) -> impl Iterator<Item = &str> {
    pairs.iter().flat_map(|pair| [pair.chosen.as_str(), pair.rejected.as_str()])
}

#[test]
fn held_out_pairs_share_no_response_no_filler_and_no_request_with_training() {
    for seed in SEEDS {
        let train = demo::pairs(seed, Split::Train, 20_000);
        let reading = demo::reading(seed, 20_000, 0.85);
        let openings = demo::openings(seed, 20_000, 0.85);
        let read = || reading.iter().chain(openings.iter().map(|opening| &opening.reading));
        let seen: HashSet<&str> =
            responses(&train).chain(read().map(|text| text.response.as_str())).collect();
        let fillers: HashSet<String> = seen.iter().map(|text| filler(text)).collect();
        let requests: HashSet<&str> = train
            .iter()
            .map(|pair| pair.messages[0].content.as_str())
            .chain(read().map(|text| text.messages[0].content.as_str()))
            .collect();
        for pair in demo::pairs(seed, Split::HeldOut, 480) {
            assert!(!requests.contains(pair.messages[0].content.as_str()), "{pair:?}");
            for response in [&pair.chosen, &pair.rejected] {
                assert!(!seen.contains(response.as_str()), "{response}");
                assert!(!fillers.contains(&filler(response)), "{response}");
            }
        }
    }
}

#[test]
fn rows_cycle_through_the_four_tasks() {
    for (row, pair) in demo::pairs(1, Split::HeldOut, 480).iter().enumerate() {
        assert_eq!(pair.task, TASKS[row % 4]);
        assert_ne!(pair.chosen, pair.rejected);
    }
}

#[test]
fn the_same_seed_gives_the_same_rows_and_another_seed_gives_others() {
    assert_eq!(demo::pairs(1, Split::Train, 100), demo::pairs(1, Split::Train, 100));
    assert_eq!(demo::reading(1, 100, 0.85), demo::reading(1, 100, 0.85));
    assert_eq!(demo::openings(1, 100, 0.85), demo::openings(1, 100, 0.85));
    assert_ne!(demo::pairs(1, Split::Train, 100), demo::pairs(2, Split::Train, 100));
}

#[test]
fn a_longer_draw_begins_with_the_shorter_one() {
    assert_eq!(demo::pairs(3, Split::Train, 10), demo::pairs(3, Split::Train, 40)[..10]);
}

#[test]
fn scores_of_openings_lie_apart_from_what_the_answer_says() {
    let openings = demo::openings(1, 90_000, 0.85);
    let mean = |agrees: bool| {
        let scores: Vec<f64> = openings
            .iter()
            .filter(|opening| (opening.expected == opening.said) == agrees)
            .map(|opening| opening.score.value())
            .collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    };
    // Two five-sided dice less one have mean 5 and deviation 2; each half has at least 30,000 rows: five sigma is 0.06.
    assert!((mean(true) - 5.0).abs() < 0.06 && (mean(false) - 5.0).abs() < 0.06);
    assert!((1..=9).all(|score| openings.iter().any(|opening| opening.score.value() == f64::from(score))));
}

#[test]
fn openings_copy_the_word_they_quote() {
    for opening in demo::openings(2, 4_000, 0.85) {
        let words: Vec<&str> = opening.reading.response.split(|c: char| !c.is_alphanumeric()).collect();
        assert!(words.contains(&opening.said.as_str()), "{opening:?}");
    }
}

#[test]
fn the_share_of_right_answers_in_the_reading_is_the_one_asked_for() {
    // Math is the task whose truth can be worked out from the outside.
    let right = demo::reading(1, 40_000, 0.85)
        .iter()
        .filter(|text| text.task == "math")
        .map(is_right)
        .collect::<Vec<_>>();
    let share = right.iter().filter(|&&right| right).count() as f64 / right.len() as f64;
    assert!((share - 0.85).abs() < 0.02, "{share}");
}

fn is_right(text: &demo::Reading) -> bool {
    const NUMBERS: [&str; 11] =
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let numbers = |text: &str| -> Vec<usize> {
        text.split(|c: char| !c.is_alphanumeric())
            .filter_map(|word| NUMBERS.iter().position(|number| *number == word))
            .collect()
    };
    let request = &text.messages[0].content;
    let [start, change] = numbers(request)[..] else { panic!("two numbers in {request}") };
    let gains = ["buys", "finds", "gets"].iter().any(|verb| request.contains(verb));
    let result = if gains { start + change } else { start - change };
    numbers(&text.response) == [result]
}

#[test]
fn words_on_which_answers_turn_are_one_token_wherever_they_stand() {
    let tokenizer = demo::tokenizer().unwrap();
    for opening in demo::openings(5, 4_000, 0.85) {
        for word in [&opening.expected, &opening.said] {
            let [token] = tokenizer.encode(&format!(" {word}")).unwrap()[..] else {
                panic!("{word} is cut apart")
            };
            let verdict = tokenizer.encode(&opening.verdict_text()).unwrap();
            assert!(verdict.contains(&token), "{opening:?}");
        }
        let said = tokenizer.encode(&format!(" {}", opening.said)).unwrap()[0];
        assert!(tokenizer.encode(&opening.reading.response).unwrap().contains(&said), "{opening:?}");
    }
}

#[test]
fn judge_prompts_and_verdicts_are_short() {
    let (tokenizer, rubrics) = (demo::tokenizer().unwrap(), demo::rubrics());
    for opening in demo::openings(6, 2_000, 0.85) {
        let reading = &opening.reading;
        let prompt = rubrics.judge_prompt(&reading.task, &reading.messages, &reading.response).unwrap();
        let prompt = tokenizer.encode_chat(&prompt, &ChatOptions::default()).unwrap();
        let verdict = tokenizer.encode(&opening.verdict_text()).unwrap();
        assert!(prompt.len() <= 64 && verdict.len() <= 13, "{} {}", prompt.len(), verdict.len());
        let read = Verdict::parse(&opening.verdict_text(), Ending::Stopped).unwrap();
        assert_eq!(read, opening.verdict());
    }
}

#[test]
fn judges_that_read_nothing_stay_near_one_half() {
    for seed in SEEDS {
        let train = demo::pairs(seed, Split::Train, 8_000);
        let held_out = demo::pairs(seed, Split::HeldOut, 480);
        for null in nulls::table(&train, &held_out, seed) {
            let ceiling = if null.name == "n-gram regression" { 0.75 } else { 0.60 };
            let accuracy = null.accuracy();
            assert!(
                accuracy <= ceiling && accuracy >= 1.0 - ceiling,
                "seed {seed}, {}: {accuracy}",
                null.name
            );
        }
    }
}
