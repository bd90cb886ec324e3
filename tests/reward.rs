//! PAR and the format reward: tables of worked cases and properties.

use patarm::record::Finish;
use patarm::reward::{
    CutOff, FormatReward, Judgement, Margin, Outcome, PairRewards, ParConfig, Reward, RewardStats,
    ScoreCounts, Standing, par, read,
};
use patarm::rubric::{FailureKind, Score};
use proptest::prelude::*;

fn valid(value: f64) -> Judgement {
    Judgement::Valid(Score::new(value).expect("the table holds scores on the scale"))
}

fn all(values: &[f64]) -> Vec<Judgement> {
    values.iter().map(|value| valid(*value)).collect()
}

fn rewards(outcomes: &[Outcome]) -> Vec<f64> {
    outcomes.iter().map(|outcome| outcome.reward().map_or(f64::NAN, |Reward(value)| value)).collect()
}

#[test]
fn worked_cases_earn_what_the_formula_says() {
    // chosen scores, rejected scores -> rewards of the chosen, rewards of the rejected
    type Case<'a> = (&'a [f64], &'a [f64], &'a [f64], &'a [f64]);
    let table: [Case; 9] = [
        (&[8.0], &[6.0], &[1.2], &[1.2]),                      // d = 2 is still small
        (&[8.1], &[6.0], &[1.4], &[1.4]),                      // d = 2.1
        (&[6.0], &[6.0], &[0.0], &[0.0]),                      // tie
        (&[5.0], &[6.0], &[0.0], &[0.0]),                      // the wrong side wins
        (&[8.0, 5.0], &[6.0, 7.0], &[1.2, 0.0], &[1.2, 0.0]),  // means 6.5 and 6.5
        (&[10.0, 4.0], &[1.0, 5.0], &[1.4, 1.2], &[1.4, 1.2]), // means 7 and 3; 7 - 5 = 2
        (&[7.0, 7.0, 7.1], &[7.0], &[0.0, 0.0, 1.2], &[1.2]),  // mean 7.03
        (&[1.0, 10.0], &[10.0, 1.0, 5.5], &[0.0, 1.4], &[0.0, 1.4, 0.0]), // 5.5 is exactly the mean
        (&[2.1, 2.2, 2.3], &[0.1 + 2.0 + 0.1, 2.2], &[0.0, 0.0, 1.2], &[0.0, 0.0]), // binary fractions do not make a win
    ];
    for (chosen, rejected, of_chosen, of_rejected) in table {
        let rejected: Vec<f64> = rejected.iter().map(|score| (score * 10.0).round() / 10.0).collect();
        let pair = par(&all(chosen), &all(&rejected), &ParConfig::default());
        assert_eq!(rewards(&pair.chosen), of_chosen, "{chosen:?} {rejected:?}");
        assert_eq!(rewards(&pair.rejected), of_rejected, "{chosen:?} {rejected:?}");
    }
}

#[test]
fn margin_functions_follow_their_settings() {
    let earned = |margin, chosen| {
        let config = ParConfig { margin, ..ParConfig::default() };
        rewards(&par(&all(&[chosen]), &all(&[4.0]), &config).chosen)[0]
    };
    let graded = Margin::Graded { step: 0.5, small: 0.25, large: 3.0 };
    let linear = Margin::Linear { slope: 0.5, cap: 1.5 };
    for (margin, chosen, expected) in [
        (graded, 4.5, 0.25),
        (graded, 4.6, 3.0),
        (graded, 4.0, 0.0),
        (Margin::Constant { value: 0.7 }, 4.1, 0.7),
        (Margin::Constant { value: 0.7 }, 10.0, 0.7),
        (Margin::Constant { value: 0.7 }, 3.9, 0.0),
        (linear, 5.0, 0.5),
        (linear, 7.0, 1.5),
        (linear, 10.0, 1.5),
        (linear, 1.0, 0.0),
    ] {
        assert_eq!(earned(margin, chosen), expected, "{margin:?} {chosen}");
    }
}

#[test]
fn failed_judgements_earn_by_kind_and_stay_outside_the_means() {
    use FailureKind::*;
    let broken = [Silent, MissingTag, Doubled, WrongOrder, CutOff];
    let bad = [StrayText, EmptyPart, BadLine, InvalidScore, ScoreCount, OutOfRange];
    let config =
        ParConfig { format: FormatReward { bad_content: -0.5, broken_tags: -2.0 }, ..ParConfig::default() };
    for kind in FailureKind::ALL {
        assert!(broken.contains(&kind) ^ bad.contains(&kind), "{kind}");
        let penalty =
            |config: &FormatReward| if bad.contains(&kind) { config.bad_content } else { config.broken_tags };
        let chosen = [valid(9.0), Judgement::Failed(kind), valid(7.0)];
        for config in [config, ParConfig::default()] {
            let pair = par(&chosen, &all(&[6.5]), &config);
            assert_eq!(rewards(&pair.chosen), [1.4, penalty(&config.format), 1.2]);
            assert_eq!(pair.chosen_mean, Some(8.0));
        }
    }
}

#[test]
fn cut_off_judgement_is_masked_only_where_that_is_set() {
    let cut = [Judgement::Failed(FailureKind::CutOff), valid(5.0)];
    let masked = ParConfig { cut_off: CutOff::Masked, ..ParConfig::default() };
    assert_eq!(par(&cut, &all(&[4.0]), &masked).chosen[0], Outcome::Masked(FailureKind::CutOff));
    assert_eq!(par(&cut, &all(&[4.0]), &ParConfig::default()).chosen[0], Outcome::Rewarded(Reward(-1.5)));
    let silent = [Judgement::Failed(FailureKind::Silent)];
    assert_eq!(par(&silent, &all(&[4.0]), &masked).chosen, [Outcome::Rewarded(Reward(-1.5))]);
}

#[test]
fn pair_with_a_side_that_was_not_read_gives_format_rewards_only() {
    let failed = vec![Judgement::Failed(FailureKind::InvalidScore); 2];
    let pair = par(&all(&[10.0, 1.0]), &failed, &ParConfig::default());
    assert_eq!((rewards(&pair.chosen), rewards(&pair.rejected)), (vec![0.0; 2], vec![-1.0; 2]));
    assert_eq!((pair.chosen_mean, pair.rejected_mean, pair.standing), (Some(5.5), None, Standing::Unread));
    let pair = par(&failed, &all(&[10.0, 1.0]), &ParConfig::default());
    assert_eq!((rewards(&pair.chosen), rewards(&pair.rejected)), (vec![-1.0; 2], vec![0.0; 2]));
    let nothing = par(&[], &[], &ParConfig::default());
    assert_eq!((nothing.standing, nothing.chosen.len()), (Standing::Unread, 0));
}

#[test]
fn settings_are_read_with_defaults_and_unknown_keys_refused() {
    let read = |text: &str| toml::from_str::<ParConfig>(text);
    assert_eq!(read(""), Ok(ParConfig::default()));
    assert_eq!(read("margin = { kind = 'graded' }"), Ok(ParConfig::default()));
    let linear = Margin::Linear { slope: 0.7, cap: 2.0 };
    assert_eq!(read("margin = { kind = 'linear', cap = 2.0 }").unwrap().margin, linear);
    assert_eq!(read("cut_off = 'masked'").unwrap().cut_off, CutOff::Masked);
    for text in [
        "marign = 1",
        "margin = { kind = 'linear', step = 2.0 }",
        "margin = { kind = 'steep' }",
        "format = { a = 1 }",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
    let written = toml::to_string(&ParConfig::default()).unwrap();
    assert_eq!(read(&written), Ok(ParConfig::default()));
}

#[test]
fn settings_out_of_range_are_named() {
    assert_eq!(ParConfig::default().check(), Ok(()));
    for (text, setting) in [
        ("margin = { kind = 'graded', step = 0.0 }", "margin.step"),
        ("margin = { kind = 'graded', small = -1.0 }", "margin.small"),
        ("margin = { kind = 'graded', large = 1.0 }", "margin.large"),
        ("margin = { kind = 'constant', value = nan }", "margin.value"),
        ("margin = { kind = 'linear', slope = inf }", "margin.slope"),
        ("margin = { kind = 'linear', cap = 0.0 }", "margin.cap"),
        ("format.bad_content = 0.5", "format.bad_content"),
        ("format.broken_tags = -0.5", "format.broken_tags"),
    ] {
        let error = toml::from_str::<ParConfig>(text).unwrap().check().unwrap_err();
        assert_eq!(error.setting, setting, "{error}");
    }
}

#[test]
fn rollout_texts_become_judgements_by_their_ending() {
    let text = "<rubric>a: b (1)</rubric><eval>a: c</eval><score>4</score>";
    assert_eq!(Judgement::from(&read(text, Finish::Stop)), valid(4.0));
    let cut = &text[..20];
    assert_eq!(Judgement::from(&read(cut, Finish::Length)), Judgement::Failed(FailureKind::CutOff));
    assert_eq!(Judgement::from(&read(cut, Finish::Stop)), Judgement::Failed(FailureKind::MissingTag));
}

#[test]
fn saturation_and_entropy_are_those_of_the_distribution() {
    let mut counts = ScoreCounts::default();
    assert!(counts.mean().is_nan() && counts.entropy().is_nan() && counts.saturation().is_nan());
    for value in [1.0, 10.0, 10.0, 5.0] {
        counts.count(Score::new(value).unwrap());
    }
    assert_eq!((counts.total(), counts.mean(), counts.saturation()), (4, 6.5, 0.75));
    assert!((counts.entropy() - 1.5 * 2.0_f64.ln()).abs() < 1e-15);
    assert!((counts.spread() - (57.0_f64 / 4.0).sqrt()).abs() < 1e-15, "{}", counts.spread());
    let mut equal = ScoreCounts::default();
    (0..3).for_each(|_| equal.count(Score::LOWEST));
    assert_eq!((equal.entropy(), equal.spread(), equal.saturation()), (0.0, 0.0, 1.0));
}

#[test]
fn stats_count_every_judgement_once() {
    let mut stats = RewardStats::default();
    let config = ParConfig { cut_off: CutOff::Masked, ..ParConfig::default() };
    let cut = Judgement::Failed(FailureKind::CutOff);
    for (chosen, rejected) in [
        (vec![valid(9.0), cut], vec![valid(1.0)]),
        (vec![valid(3.0)], vec![valid(3.0)]),
        (vec![cut], vec![cut]),
    ] {
        stats.count(&chosen, &rejected, &par(&chosen, &rejected, &config));
    }
    assert_eq!((stats.judgements(), stats.masked, stats.scores.total()), (7, 3, 4));
    assert_eq!(stats.failures[&FailureKind::CutOff], 3);
    assert_eq!(stats.mean_reward(), 2.8 / 4.0);
    assert_eq!(stats.failure_rate(), 3.0 / 7.0);
    let shares = [Standing::Win, Standing::Tie, Standing::Loss, Standing::Unread]
        .map(|standing| stats.share(standing) * 3.0);
    assert_eq!(shares, [1.0, 1.0, 0.0, 1.0]);
}

fn judgement() -> impl Strategy<Value = Judgement> {
    let score =
        (10_u8..=100).prop_map(|tenths| Judgement::Valid(Score::from_tenths(tenths).expect("in range")));
    let whole =
        (1_u8..=10).prop_map(|score| Judgement::Valid(Score::from_tenths(score * 10).expect("in range")));
    let failed = prop::sample::select(&FailureKind::ALL[..]).prop_map(Judgement::Failed);
    prop_oneof![3 => score, 3 => whole, 1 => failed]
}

fn side() -> impl Strategy<Value = Vec<Judgement>> {
    prop::collection::vec(judgement(), 0..9)
}

fn config() -> impl Strategy<Value = ParConfig> {
    let margin = prop_oneof![
        (0.1..4.0, 0.1..1.0, 1.0..3.0_f64).prop_map(|(step, small, large)| Margin::Graded {
            step,
            small,
            large
        }),
        Just(Margin::default()),
        (0.1..3.0).prop_map(|value| Margin::Constant { value }),
        (0.1..2.0, 0.1..3.0).prop_map(|(slope, cap)| Margin::Linear { slope, cap }),
    ];
    let cut_off = prop::sample::select(vec![CutOff::Masked, CutOff::Penalised]);
    (margin, cut_off).prop_map(|(margin, cut_off)| ParConfig { margin, cut_off, ..ParConfig::default() })
}

/// Scores replaced by `change`; failures stay. `None` where a score leaves the scale.
fn changed(side: &[Judgement], change: impl Fn(i32) -> i32) -> Option<Vec<Judgement>> {
    let one = |judgement: &Judgement| match judgement.score() {
        None => Some(*judgement),
        Some(score) => {
            let tenths = u8::try_from(change(i32::from(score.tenths()))).ok()?;
            Score::from_tenths(tenths).map(Judgement::Valid)
        }
    };
    side.iter().map(one).collect()
}

/// The mean score of a side as a fraction of whole numbers, in tenths: 840 is a multiple of every count up to eight.
fn exact_mean(side: &[Judgement]) -> Option<(i64, i64)> {
    let scores: Vec<i64> =
        side.iter().filter_map(|j| j.score()).map(|score| i64::from(score.tenths())).collect();
    (!scores.is_empty()).then(|| (840 / scores.len() as i64 * scores.iter().sum::<i64>(), 840))
}

proptest! {
    #[test]
    fn default_rewards_equal_the_formula_in_whole_numbers(chosen in side(), rejected in side()) {
        let pair = par(&chosen, &rejected, &ParConfig::default());
        let expected = |side: &[Judgement], other: &[Judgement], sign: i64| -> Vec<Option<f64>> {
            let mean = exact_mean(other);
            let valid = |score: Score| mean.map_or(0.0, |(mean, unit)| {
                let margin = sign * (i64::from(score.tenths()) * unit - mean);
                if margin <= 0 { 0.0 } else if margin <= 20 * unit { 1.2 } else { 1.4 }
            });
            side.iter().map(|judgement| judgement.score().map(valid)).collect()
        };
        for (outcomes, expected) in [
            (&pair.chosen, expected(&chosen, &rejected, 1)),
            (&pair.rejected, expected(&rejected, &chosen, -1)),
        ] {
            prop_assert_eq!(outcomes.len(), expected.len());
            for (outcome, expected) in rewards(outcomes).into_iter().zip(expected) {
                prop_assert!(expected.map_or(outcome < 0.0, |expected| outcome == expected));
            }
        }
    }

    #[test]
    fn judgement_is_never_rewarded_for_losing(chosen in side(), rejected in side(), config in config()) {
        let pair = par(&chosen, &rejected, &config);
        for (judgement, outcome) in chosen.iter().zip(rewards(&pair.chosen)) {
            let beaten = judgement.score().zip(pair.rejected_mean).is_none_or(|(score, mean)| score.value() <= mean);
            prop_assert!(!beaten || outcome.is_nan() || outcome <= 0.0);
        }
        for (judgement, outcome) in rejected.iter().zip(rewards(&pair.rejected)) {
            let beaten = judgement.score().zip(pair.chosen_mean).is_none_or(|(score, mean)| score.value() >= mean);
            prop_assert!(!beaten || outcome.is_nan() || outcome <= 0.0);
        }
    }

    #[test]
    fn adding_a_constant_to_all_scores_changes_no_reward(
        chosen in side(), rejected in side(), shift in -90_i32..=90, config in config(),
    ) {
        let shifted = changed(&chosen, |tenths| tenths + shift).zip(changed(&rejected, |tenths| tenths + shift));
        if let Some((shifted_chosen, shifted_rejected)) = shifted {
            let (plain, moved) = (par(&chosen, &rejected, &config), par(&shifted_chosen, &shifted_rejected, &config));
            prop_assert_eq!((plain.chosen, plain.rejected, plain.standing), (moved.chosen, moved.rejected, moved.standing));
        }
    }

    #[test]
    fn turning_scale_and_sides_around_changes_no_reward(chosen in side(), rejected in side(), config in config()) {
        let turned = |side: &[Judgement]| changed(side, |tenths| 110 - tenths).expect("the scale maps onto itself");
        let PairRewards { chosen: of_chosen, rejected: of_rejected, .. } = par(&chosen, &rejected, &config);
        let around = par(&turned(&rejected), &turned(&chosen), &config);
        prop_assert_eq!((of_chosen, of_rejected), (around.rejected, around.chosen));
    }

    #[test]
    fn failed_judgements_move_no_one_elses_reward(chosen in side(), rejected in side(), config in config()) {
        let kept = |side: &[Judgement]| -> Vec<_> { side.iter().copied().filter(|j| j.score().is_some()).collect() };
        let (all, only) = (par(&chosen, &rejected, &config), par(&kept(&chosen), &kept(&rejected), &config));
        let of_kept = |side: &[Judgement], outcomes: &[Outcome]| -> Vec<_> {
            side.iter().zip(outcomes).filter(|(j, _)| j.score().is_some()).map(|(_, outcome)| *outcome).collect()
        };
        prop_assert_eq!(of_kept(&chosen, &all.chosen), only.chosen);
        prop_assert_eq!(of_kept(&rejected, &all.rejected), only.rejected);
    }

    #[test]
    fn failed_parse_is_never_a_score_and_never_rewarded(text in "[<>/a-z0-9: ()\n]{0,60}", finish in prop::sample::select(vec![Finish::Stop, Finish::Length])) {
        let judgement = Judgement::from(&read(&text, finish));
        if let Judgement::Failed(_) = judgement {
            let pair = par(&[judgement], &all(&[1.0]), &ParConfig::default());
            prop_assert!(pair.chosen_mean.is_none() && rewards(&pair.chosen)[0] <= -1.0);
        }
    }
}
