//! Metrics and judgements as people look at them: TensorBoard events, one self-contained HTML page, tables.
//!
//! A step's numbers go into a [`Row`] under any name; the page draws these together, under titles and with units, and gives
//! every other name a picture of its own. Names are TRL's where it has one; [`MetricNames`] gives TensorBoard verl's.
//!
//! | what | names |
//! |---|---|
//! | reward, score | `reward` `reward/kl_penalty` `score/mean` `score/spread` `score/entropy` `score/saturation` |
//! | groups | `frac_reward_zero_std` `groups/resampled` |
//! | pairs and failures, shares | `pairs/win` `pairs/tie` `pairs/loss` `failure_rate` `failures/<kind>` |
//! | policy | `loss` `kl` `entropy` `ratio/mean` `clip_ratio/low_mean` `clip_ratio/high_mean` `clip_ratio/region_mean` |
//! | length | `completions/mean_length` `completions/max_length` `completions/clipped_ratio` `tokens` |
//! | optimizer | `grad_norm` `learning_rate` |
//! | time and speed | `step_time` `time/<phase>` (seconds) `tokens_per_second` `rollout/tokens_per_second` |
//! | before RL | `reading/loss` `sft/loss` |
//! | evaluation | `eval/<anything>`: shown through [`RunReport::accuracy`] instead |

mod events;
mod json_lines;
mod metrics;
mod names;
mod page;
mod run;
mod statistics;
mod table;
mod unit;

pub use events::EventFile;
pub use json_lines::{JsonLines, RowError, read_rows};
pub use metrics::{MetricsError, MetricsLog, Note, Notice, Origin, Row, Sink, Start};
pub use names::MetricNames;
pub use run::{
    AccuracyCurve, AccuracyPoint, Answer, Better, Comparison, Fact, Headline, Judgement, NullJudge, Outcome,
    ReportError, RunReport, Sample, ScoreHistory, ScoreSnapshot,
};
pub use statistics::{Estimate, StatisticsError, bootstrap_mean, paired_bootstrap, quantile, wilson};
pub use table::Table;
pub use unit::Unit;
