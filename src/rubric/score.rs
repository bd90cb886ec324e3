use serde::{Deserialize, Serialize};

use super::VerdictError;

/// A score on the 1 to 10 scale in steps of a tenth, held as tenths: order, equality and sums are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub struct Score(u8);

impl Score {
    /// The lower end of the scale, 1.
    pub const LOWEST: Self = Self(10);
    /// The upper end of the scale, 10.
    pub const HIGHEST: Self = Self(100);

    /// The score of `value`, which must be one of 1.0, 1.1, … 10.0; anything else is `None`.
    pub fn new(value: f64) -> Option<Self> {
        let tenths = (value * 10.0).round();
        ((10.0..=100.0).contains(&tenths) && tenths / 10.0 == value).then_some(Self(tenths as u8))
    }

    /// The score of `tenths` / 10, within 10..=100.
    pub fn from_tenths(tenths: u8) -> Option<Self> {
        (Self::LOWEST.0..=Self::HIGHEST.0).contains(&tenths).then_some(Self(tenths))
    }

    /// Ten times the score, exactly.
    pub fn tenths(self) -> u8 {
        self.0
    }

    /// The score as a number.
    pub fn value(self) -> f64 {
        f64::from(self.0) / 10.0
    }

    /// Every text that [`Score::parse`] accepts between white space, with its score: `1` to `10` and `1.0` to `10.0`.
    pub fn spellings() -> impl Iterator<Item = (String, Self)> {
        let whole = (1..=10).map(|score| (score.to_string(), Self(score * 10)));
        whole.chain((10..=100).map(|tenths| (format!("{}.{}", tenths / 10, tenths % 10), Self(tenths))))
    }

    /// Reads a score: digits, at most one decimal, no sign, no leading zero.
    ///
    /// # Errors
    /// [`VerdictError::OutOfRange`] for a number of that form (a minus sign allowed) outside 1 to 10, else
    /// [`VerdictError::InvalidScore`].
    pub fn parse(text: &str) -> Result<Self, VerdictError> {
        let invalid = || VerdictError::InvalidScore { text: text.chars().take(40).collect() };
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (whole, tenth) = digits.split_once('.').unwrap_or((digits, "0"));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if !plain(whole) || !plain(tenth) || tenth.len() != 1 || leading_zero {
            return Err(invalid());
        }
        let tenths = format!("{whole}{tenth}").parse::<u8>().ok().filter(|_| !negative);
        let out_of_range = || VerdictError::OutOfRange { text: text.chars().take(40).collect() };
        tenths.and_then(Self::from_tenths).ok_or_else(out_of_range)
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.value())
    }
}

impl From<Score> for f64 {
    fn from(score: Score) -> Self {
        score.value()
    }
}

impl TryFrom<f64> for Score {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("{value} is not a score: give 1 to 10 in steps of 0.1"))
    }
}
