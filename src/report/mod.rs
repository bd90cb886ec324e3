//! Metrics and judgements as people look at them: TensorBoard events, one self-contained HTML page, tables.
