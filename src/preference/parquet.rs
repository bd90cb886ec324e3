use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, List, Row};
use ::parquet::schema::types::Type;

use super::error::PreferenceError;
use super::options::Keys;
use super::pages::Pages;
use super::raw::{Cell, MOST_TURNS, RawRow, Turn, UNREAD};

/// The rows of a Parquet file, only the columns that matter.
pub(super) struct ParquetRows<'a> {
    rows: RowIter<'static>,
    path: &'a Path,
    keys: &'a Keys,
}

impl<'a> ParquetRows<'a> {
    pub(super) fn open(path: &'a Path, keys: &'a Keys) -> Result<Self, PreferenceError> {
        let io = |source| PreferenceError::Io { path: path.to_owned(), source };
        let pages = File::open(path).and_then(Pages::new).map_err(io)?;
        let rows = guarded(path, || {
            let reader = SerializedFileReader::new(pages.clone())?;
            let matters = |name: &str| RawRow::default().cell(name, keys).is_some();
            pages.keep_to(reader.metadata(), matters)?;
            let schema = reader.metadata().file_metadata().schema();
            let columns = schema.get_fields().iter();
            let wanted: Vec<_> = columns.filter(|column| matters(column.name())).map(Arc::clone).collect();
            let projection = Type::group_type_builder(schema.name()).with_fields(wanted).build()?;
            RowIter::from_file_into(Box::new(reader)).project(Some(projection))
        })?;
        Ok(Self { rows, path, keys })
    }
}

impl Iterator for ParquetRows<'_> {
    type Item = Result<RawRow, PreferenceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = &mut self.rows;
        let row = guarded(self.path, || rows.next().transpose()).transpose()?;
        Some(row.map(|row| raw_row(row, self.keys)))
    }
}

/// The reader panics on some damaged files and unknown column types; here both are errors that name the file.
fn guarded<T>(
    path: &Path,
    work: impl FnOnce() -> ::parquet::errors::Result<T>,
) -> Result<T, PreferenceError> {
    let broken = |reason: String| PreferenceError::Parquet { path: path.to_owned(), reason };
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| broken("the reader gave up on a damaged page or unknown type".into()))?
        .map_err(|error| broken(error.to_string()))
}

fn raw_row(row: Row, keys: &Keys) -> RawRow {
    let mut raw = RawRow::default();
    for (name, field) in row.into_columns() {
        if let Some(cell) = raw.cell(&name, keys) {
            *cell = match field {
                Field::ListInternal(list) => turns(&list),
                field => scalar(&field),
            };
        }
    }
    raw
}

fn turns(list: &List) -> Cell {
    if list.len() > MOST_TURNS {
        return Cell::TooManyTurns;
    }
    let turn = |field: &Field| match field {
        Field::Group(fields) => {
            let named = |name: &str| fields.get_column_iter().find(|(column, _)| *column == name);
            let cell = |name| named(name).map_or(Cell::Absent, |(_, field)| scalar(field));
            let unread = UNREAD.into_iter().find(|name| named(name).is_some_and(|(_, field)| says(field)));
            Turn { role: cell("role"), content: cell("content"), unread }
        }
        _ => Turn::default(),
    };
    Cell::Turns(list.elements().iter().map(turn).collect())
}

/// Whether a field holds anything at all.
fn says(field: &Field) -> bool {
    match field {
        Field::Null => false,
        Field::Str(text) => !text.is_empty(),
        Field::ListInternal(list) => !list.elements().is_empty(),
        _ => true,
    }
}

fn scalar(field: &Field) -> Cell {
    match field {
        Field::Null => Cell::Absent,
        Field::Str(text) => Cell::Text(text.clone()),
        Field::Bytes(bytes) => {
            std::str::from_utf8(bytes.data()).map_or(Cell::Other, |text| Cell::Text(text.to_owned()))
        }
        Field::Int(number) => Cell::Number(number.to_string()),
        Field::Long(number) => Cell::Number(number.to_string()),
        _ => Cell::Other,
    }
}
