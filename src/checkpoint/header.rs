use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Fault, Stored};

/// The longest header the format allows.
pub(super) const LONGEST: u64 = 100_000_000;

/// Where one tensor lies in a file and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) stored: Stored,
    pub(super) shape: Vec<u64>,
    /// Bytes of the file.
    pub(super) range: Range<usize>,
}

/// Why a header was refused: the file as a whole, or one tensor.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    File(String),
    Tensor(String, Fault),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Every entry in the order of the text: a map would hide that a name stands twice.
struct RawHeader(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let (mut entries, mut metadata) = (Vec::new(), false);
                while let Some(name) = map.next_key::<String>()? {
                    if name != "__metadata__" {
                        entries.push((name, map.next_value()?));
                    } else if std::mem::replace(&mut metadata, true) {
                        return Err(A::Error::custom("`__metadata__` stands twice"));
                    } else {
                        map.next_value::<BTreeMap<String, String>>()?;
                    }
                }
                Ok(RawHeader(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Reads and checks the header of a safetensors file given all its bytes. Nothing is allocated beyond the header's own size.
pub(super) fn parse(file: &[u8]) -> Result<BTreeMap<String, Entry>, Refusal> {
    let (json, data_start) = split(file)?;
    let raw: RawHeader = serde_json::from_slice(json)
        .map_err(|e| Refusal::File(format!("the header is no valid JSON: {e}")))?;
    let mut seen = HashSet::new();
    if let Some((twice, _)) = raw.0.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        return Err(Refusal::Tensor(twice.clone(), Fault::Twice));
    }
    let mut entries = Vec::with_capacity(raw.0.len());
    let data = (file.len() - data_start) as u64;
    for (name, raw) in raw.0 {
        match entry(raw, data, data_start) {
            Ok(entry) => entries.push((name, entry)),
            Err(fault) => return Err(Refusal::Tensor(name, fault)),
        }
    }
    check_contiguous(&mut entries, data_start..file.len())?;
    Ok(entries.into_iter().collect())
}

/// The header's JSON and where the data starts.
fn split(file: &[u8]) -> Result<(&[u8], usize), Refusal> {
    let refuse = |reason: String| Err(Refusal::File(reason));
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return refuse(format!(
            "{} bytes are no safetensors file: it starts with 8 bytes of length",
            file.len()
        ));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST {
        return refuse(format!("the header claims {length} bytes, {LONGEST} is the most"));
    }
    if length > rest.len() as u64 {
        return refuse(format!(
            "the header claims {length} bytes, the file has {} left: it is cut off",
            rest.len()
        ));
    }
    let json = &rest[..length as usize];
    if json.first() != Some(&b'{') {
        return refuse("the header does not start with `{`: not a safetensors file".into());
    }
    Ok((json, 8 + json.len()))
}

fn entry(raw: RawEntry, data: u64, data_start: usize) -> Result<Entry, Fault> {
    let stored = Stored::from_name(&raw.dtype).ok_or(Fault::Dtype(raw.dtype))?;
    let (start, end) = raw.data_offsets;
    let needed = raw.shape.iter().try_fold(stored.size() as u64, |all, &size| all.checked_mul(size));
    let needed = needed.ok_or_else(|| Fault::Overflow(raw.shape.clone()))?;
    let found = end.checked_sub(start).ok_or(Fault::Backwards(start, end))?;
    if end > data {
        return Err(Fault::PastEnd { end, data });
    }
    if found != needed {
        return Err(Fault::Length { found, needed });
    }
    let range = data_start + start as usize..data_start + end as usize;
    Ok(Entry { stored, shape: raw.shape, range })
}

/// Tensors follow each other without a gap from the first byte of the data to the last.
fn check_contiguous(entries: &mut [(String, Entry)], data: Range<usize>) -> Result<(), Refusal> {
    entries.sort_by_key(|(_, e)| (e.range.start, e.range.end));
    let (mut end, mut before) = (data.start, "");
    for (name, entry) in entries.iter() {
        let fault = if entry.range.start > end {
            Fault::Hole((entry.range.start - end) as u64)
        } else if entry.range.start < end {
            Fault::Overlap(before.to_owned())
        } else {
            (end, before) = (entry.range.end, name);
            continue;
        };
        return Err(Refusal::Tensor(name.clone(), fault));
    }
    if end < data.end {
        return Err(Refusal::File(format!("{} bytes at the end belong to no tensor", data.end - end)));
    }
    Ok(())
}

/// The bytes that stand before the data: length, JSON, spaces up to a multiple of 8.
pub(super) fn write(tensors: &[(&str, Stored, Vec<usize>)]) -> Vec<u8> {
    let mut object = serde_json::Map::new();
    object.insert("__metadata__".into(), serde_json::json!({ "format": "pt" }));
    let mut start = 0;
    for (name, stored, shape) in tensors {
        let end = start + shape.iter().product::<usize>() * stored.size();
        let entry =
            serde_json::json!({ "dtype": stored.name(), "shape": shape, "data_offsets": [start, end] });
        object.insert((*name).to_owned(), entry);
        start = end;
    }
    let mut json = serde_json::Value::Object(object).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    bytes
}
