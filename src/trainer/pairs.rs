use serde::{Deserialize, Serialize};

use super::{Contaminated, DataConfig, TrainConfig, TrainError, TrainingData};
use crate::demo::{self, Split};
use crate::evaluation::PreparedPair;
use crate::preference::{self, PreferencePair, ReadOptions, RowError};

/// The pairs of a run, split, and what was noticed on the way.
#[derive(Debug)]
pub(super) struct Pairs {
    /// To learn from; the rest, in the order in which evaluation takes of them.
    pub(super) splits: [Vec<PreferencePair>; 2],
    /// Hash of all pairs, hexadecimal.
    pub(super) hash: String,
    pub(super) noticed: DataReport,
    /// Rows that were no pair.
    pub(super) rejects: Vec<RowError>,
}

/// What was noticed about the data. Counts are of rows or pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataReport {
    /// Rows of all files.
    pub rows: usize,
    /// Rows that were no pair, and left out.
    pub rejects: usize,
    /// Rows that were the same pair as an earlier one, and left out.
    pub duplicates: usize,
    /// Pairs whose id an earlier, different pair has too.
    pub repeated_ids: usize,
    /// Validation and held-out pairs whose prompt is repeated, 13 words in a row, by training text.
    pub contaminated: usize,
    /// Ids of the first of those.
    pub examples: Vec<String>,
}

impl DataConfig {
    /// How files of pairs are read.
    pub fn read_options(&self) -> ReadOptions {
        ReadOptions { default_task: self.task.clone(), skip_bad: self.skip_bad, ..ReadOptions::default() }
    }
}

impl Pairs {
    /// Reads or makes the pairs that the configuration asks for.
    ///
    /// # Errors
    /// Data that cannot be read, more bad rows than allowed, or repeated text where that is denied.
    pub(super) fn read(config: &TrainConfig) -> Result<Self, TrainError> {
        let Some(path) = &config.data.path else { return Ok(Self::of_demo(config)) };
        let dataset = preference::read(path, &config.data.read_options())?;
        let noticed = DataReport {
            rows: dataset.files.iter().map(|file| file.rows).sum(),
            rejects: dataset.rejects.len(),
            duplicates: dataset.duplicates,
            repeated_ids: dataset.repeated_ids,
            ..DataReport::default()
        };
        let (train, mut rest) = preference::split(dataset.pairs, config.data.held_out_share);
        rest.sort_by_key(|pair| *pair.content_hash().as_bytes());
        let hash = dataset.hash.to_hex().to_string();
        Ok(Self { splits: [train, rest], hash, noticed, rejects: dataset.rejects })
    }

    fn of_demo(config: &TrainConfig) -> Self {
        let evaluation = &config.evaluation;
        let train = demo::pairs(config.seed, Split::Train, config.data.demo_pairs);
        let rest = demo::pairs(0, Split::HeldOut, evaluation.validation_pairs + evaluation.held_out_pairs);
        let hash = preference::data_hash(train.iter().chain(&rest)).to_hex().to_string();
        let noticed = DataReport { rows: train.len() + rest.len(), ..DataReport::default() };
        Self { splits: [train, rest], hash, noticed, rejects: Vec::new() }
    }
}

fn pair(prepared: &PreparedPair) -> &PreferencePair {
    &prepared.pair
}

impl DataReport {
    /// Looks for prompts of validation and held-out pairs that training text repeats.
    ///
    /// # Errors
    /// Where there are any, or ids that stand twice, and the configuration denies it.
    pub(super) fn look(&mut self, data: &TrainingData, contaminated: Contaminated) -> Result<(), TrainError> {
        let rest = data.validation.iter().chain(&data.held_out);
        let found = preference::contamination(data.train.iter().map(pair), rest.map(pair));
        (self.contaminated, self.examples) = (found.pairs, found.examples);
        self.check(contaminated)
    }

    fn check(&self, contaminated: Contaminated) -> Result<(), TrainError> {
        match contaminated {
            Contaminated::Deny if self.repeated_ids + self.contaminated > 0 => {
                Err(TrainError::Contaminated { reason: self.repeats().join("; ") })
            }
            Contaminated::Warn | Contaminated::Deny => Ok(()),
        }
    }

    fn repeats(&self) -> Vec<String> {
        let ids = format!("{} pairs have an id that an earlier, different pair has too", self.repeated_ids);
        let text = format!(
            "training text repeats the prompt of {} validation or held-out pairs, {} words in a row (ids {})",
            self.contaminated,
            preference::REPEATED_WORDS,
            self.examples.join(", ")
        );
        let said = [(self.repeated_ids, ids), (self.contaminated, text)];
        said.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text).collect()
    }

    /// What a person should know before the run: nothing, for sound data.
    pub fn notices(&self) -> Vec<String> {
        let left_out =
            [(self.rejects, "were no pair"), (self.duplicates, "were a pair that had been read before")];
        let left_out = left_out.into_iter().filter(|(count, _)| *count > 0);
        let left_out =
            left_out.map(|(count, why)| format!("{count} of {} rows {why}, and are left out", self.rows));
        left_out.chain(self.repeats()).map(|text| format!("data: {text}")).collect()
    }
}
