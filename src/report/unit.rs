use serde::{Deserialize, Serialize};

/// What a number counts, and so how it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A plain number.
    #[default]
    Number,
    /// A share in 0..=1, written in per cent.
    Share,
    /// A difference of shares, written in percentage points with its sign.
    Points,
    /// A whole number of things.
    Count,
    /// A duration in seconds.
    Seconds,
    /// Natural units of information.
    Nats,
    /// A length in tokens.
    Tokens,
    /// Tokens a second.
    TokensPerSecond,
}

impl Unit {
    /// `value` as people read it, with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => format!("{value}"),
            Self::Share => format!("{:.1} %", 100.0 * value),
            Self::Points => format!("{:+.1} points", 100.0 * value),
            Self::Seconds => duration(value),
            Self::Number => short(value),
            Self::Count => grouped(value.round()),
            Self::Nats => format!("{} nats", short(value)),
            Self::Tokens => format!("{} tokens", short(value)),
            Self::TokensPerSecond => format!("{} tokens/s", short(value)),
        }
    }

    /// `value` as a figure and its unit apart, for type of two sizes.
    pub(super) fn show_apart(self, value: f64) -> (String, &'static str) {
        let whole = value.round().max(0.0) as u64;
        match self {
            Self::Seconds if whole >= 3600 => (format!("{}:{:02}", whole / 3600, whole % 3600 / 60), "h"),
            Self::Seconds if whole >= 60 => (format!("{}:{:02}", whole / 60, whole % 60), "min"),
            _ => {
                let unit = self.name();
                let text = self.show(value);
                (text.strip_suffix(unit).unwrap_or(&text).trim_end().to_owned(), unit)
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Number | Self::Count => "",
            Self::Share => "%",
            Self::Points => "points",
            Self::Seconds => "s",
            Self::Nats => "nats",
            Self::Tokens => "tokens",
            Self::TokensPerSecond => "tokens/s",
        }
    }

    /// `low` and `high` of an interval, the unit written once.
    pub fn show_interval(self, low: f64, high: f64) -> String {
        match self {
            Self::Share => format!("{:.1} to {:.1} %", 100.0 * low, 100.0 * high),
            Self::Points => format!("{:+.1} to {:+.1}", 100.0 * low, 100.0 * high),
            _ => format!("{} to {}", short(low), short(high)),
        }
    }

    /// A value on an axis whose marks are `step` apart: no more digits than tell neighbours apart.
    pub(super) fn mark(self, value: f64, step: f64) -> String {
        let (value, step) = match self {
            Self::Share | Self::Points => (100.0 * value, 100.0 * step),
            _ => (value, step),
        };
        let text = if value != 0.0 && step.abs() < 1e-4 {
            format!("{value:.0e}")
        } else {
            let digits = (-step.abs().log10().floor()).clamp(0.0, 4.0) as usize;
            if digits == 0 { grouped(value) } else { format!("{value:.digits$}") }
        };
        if matches!(self, Self::Share) { format!("{text} %") } else { text }
    }
}

/// Three figures or so; thousands in groups.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 1e-3 => format!("{value:.2e}"),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => grouped(value.round()),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        _ if seconds < 10.0 => format!("{seconds:.2} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}
