use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use blake3::Hash;
use serde::Serialize;

use super::error::{Fault, Place, PreferenceError, RowError};
use super::hash::data_hash;
use super::options::ReadOptions;
use super::pair::PreferencePair;
use super::pairing::pair;
use super::parquet::ParquetRows;
use super::raw::parse;
use super::rows::TextRows;

/// What was read, and what was left out.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The pairs in the order of files and rows, each once.
    pub pairs: Vec<PreferencePair>,
    /// The files, in the order they were read.
    pub files: Vec<FileReport>,
    /// Rows that were the same pair as an earlier one, and left out.
    pub duplicates: usize,
    /// Pairs whose id an earlier, different pair has too.
    pub repeated_ids: usize,
    /// Rows that were no pair, and left out.
    pub rejects: Vec<RowError>,
    /// BLAKE3 over every pair, in order.
    pub hash: Hash,
}

impl Dataset {
    /// Pairs of each task.
    pub fn tasks(&self) -> BTreeMap<&str, usize> {
        let mut tasks = BTreeMap::new();
        for pair in &self.pairs {
            *tasks.entry(pair.task.as_str()).or_default() += 1;
        }
        tasks
    }
}

/// What one file held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// All its rows: pairs, duplicates and rejects.
    pub rows: usize,
    /// Rows that were the same pair as an earlier one, here or in an earlier file.
    pub duplicates: usize,
    /// Rows that were no pair.
    pub rejects: usize,
}

/// Reads a file of preference pairs, or every data file of a folder, sorted by name.
///
/// # Errors
/// A path that cannot be read or holds no data, a damaged file, or more bad rows than `options.skip_bad`.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Dataset, PreferenceError> {
    let mut reading = Reading::new(options);
    let files = data_files(path)?;
    let files: Vec<FileReport> =
        files.into_iter().map(|path| reading.file(path)).collect::<Result<_, _>>()?;
    Ok(Dataset {
        duplicates: files.iter().map(|file| file.duplicates).sum(),
        files,
        repeated_ids: reading.repeated_ids,
        hash: data_hash(&reading.pairs),
        rejects: reading.rejects,
        pairs: reading.pairs,
    })
}

#[derive(Clone, Copy)]
enum Format {
    Text,
    Parquet,
}

fn format(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?;
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name);
    match () {
        () if plain.ends_with(".jsonl") || plain.ends_with(".json") => Some(Format::Text),
        () if name.ends_with(".parquet") => Some(Format::Parquet),
        () => None,
    }
}

fn data_files(path: &Path) -> Result<Vec<PathBuf>, PreferenceError> {
    let io = |source| PreferenceError::Io { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(io)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut files: Vec<PathBuf> =
        paths.map_err(io)?.into_iter().filter(|path| path.is_file() && format(path).is_some()).collect();
    files.sort();
    if files.is_empty() {
        return Err(PreferenceError::NoData { path: path.to_owned() });
    }
    Ok(files)
}

/// What is known after some files.
struct Reading<'a> {
    options: &'a ReadOptions,
    pairs: Vec<PreferencePair>,
    seen: HashSet<Hash>,
    ids: HashSet<String>,
    repeated_ids: usize,
    rejects: Vec<RowError>,
}

impl<'a> Reading<'a> {
    fn new(options: &'a ReadOptions) -> Self {
        let (pairs, seen, ids, rejects) = Default::default();
        Self { options, pairs, seen, ids, repeated_ids: 0, rejects }
    }

    fn file(&mut self, path: PathBuf) -> Result<FileReport, PreferenceError> {
        let (pairs, rejects) = (self.pairs.len(), self.rejects.len());
        let rows = match format(&path) {
            Some(Format::Text) => self.text(&path)?,
            Some(Format::Parquet) => self.parquet(&path)?,
            None => return Err(PreferenceError::UnknownFormat { path }),
        };
        let rejects = self.rejects.len() - rejects;
        let duplicates = rows - rejects - (self.pairs.len() - pairs);
        Ok(FileReport { path, rows, duplicates, rejects })
    }

    fn text(&mut self, path: &Path) -> Result<usize, PreferenceError> {
        let io = |source| PreferenceError::Io { path: path.to_owned(), source };
        let mut count = 0;
        for row in TextRows::open(path, self.options.longest_row()).map_err(io)? {
            let (line, bytes) = row.map_err(io)?;
            let raw = bytes.map_err(Fault::row).and_then(|bytes| parse(&bytes, &self.options.keys));
            let row = raw.and_then(|raw| pair(raw, self.options));
            self.take(row, path, Place::Line(line))?;
            count += 1;
        }
        Ok(count)
    }

    fn parquet(&mut self, path: &Path) -> Result<usize, PreferenceError> {
        let mut count = 0;
        for raw in ParquetRows::open(path, &self.options.keys)? {
            self.take(pair(raw?, self.options), path, Place::Row(count))?;
            count += 1;
        }
        Ok(count)
    }

    /// Keeps a pair that is new; a bad row is listed while that is allowed.
    fn take(
        &mut self,
        row: Result<PreferencePair, Fault>,
        path: &Path,
        place: Place,
    ) -> Result<(), PreferenceError> {
        match row {
            Ok(pair) => {
                if self.seen.insert(pair.content_hash()) {
                    self.repeated_ids += usize::from(!self.ids.insert(pair.id.clone()));
                    self.pairs.push(pair);
                }
            }
            Err(Fault { field, reason }) => {
                let row = RowError { file: path.to_owned(), place, field, reason };
                if self.rejects.len() == self.options.skip_bad {
                    return Err(PreferenceError::BadRow {
                        row: Box::new(row),
                        allowed: self.options.skip_bad,
                    });
                }
                self.rejects.push(row);
            }
        }
        Ok(())
    }
}
