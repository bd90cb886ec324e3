//! Metrics and judgements as people look at them: TensorBoard events, one self-contained HTML page, tables.

mod statistics;

pub use statistics::{Estimate, StatisticsError, bootstrap_mean, paired_bootstrap, quantile, wilson};
