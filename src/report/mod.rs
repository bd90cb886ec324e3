//! Metrics and judgements as people look at them: TensorBoard events, one self-contained HTML page, tables.

mod events;
mod json_lines;
mod metrics;
mod page;
mod run;
mod statistics;
mod table;
mod unit;

pub use events::EventFile;
pub use json_lines::{JsonLines, RowError, read_rows};
pub use metrics::{MetricsError, MetricsLog, Note, Notice, Origin, Row, Sink, Start};
pub use run::{
    AccuracyCurve, AccuracyPoint, Answer, Better, Comparison, Fact, Headline, Judgement, NullJudge, Outcome,
    ReportError, RunReport, Sample, ScoreHistory, ScoreSnapshot,
};
pub use statistics::{Estimate, StatisticsError, bootstrap_mean, paired_bootstrap, quantile, wilson};
pub use table::Table;
pub use unit::Unit;
