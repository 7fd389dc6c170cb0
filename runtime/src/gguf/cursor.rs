//! The bytes of an item of the header, and the parts that items are made of: numbers, strings, runs of array
//! elements.

use super::read::MAX_HEADER_BYTES;
use super::{Array, GgufError};

/// Why an item was not parsed.
pub(super) enum Stop {
    /// It needs so many bytes, counted from its start.
    Need(u64),
    Bad(GgufError),
}

impl From<GgufError> for Stop {
    fn from(error: GgufError) -> Self {
        Stop::Bad(error)
    }
}

pub(super) type Parsed<T> = Result<T, Stop>;

/// The pending bytes, from the start of an item.
pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    /// Bytes of the file from the start of the item.
    pub file_left: u64,
}

impl<'a> Cursor<'a> {
    pub fn take(&mut self, n: u64) -> Parsed<&'a [u8]> {
        let end = (self.at as u64).saturating_add(n);
        match usize::try_from(end).ok().and_then(|end| self.bytes.get(self.at..end)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(Stop::Need(end)),
        }
    }

    pub fn fixed<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    pub fn u32(&mut self) -> Parsed<u32> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    pub fn u64(&mut self) -> Parsed<u64> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    /// Bytes of the file after the cursor.
    pub fn left(&self) -> u64 {
        self.file_left.saturating_sub(self.at as u64)
    }

    /// A string of at most `max` bytes; `bad` makes an error that names the place.
    pub fn string(&mut self, max: u64, bad: impl Fn(String) -> GgufError) -> Parsed<String> {
        let n = self.u64()?;
        if n > self.left() {
            let problem =
                format!("a string of {n} bytes, but only {} bytes of the file are left", self.left());
            return Err(bad(problem).into());
        }
        if n > max {
            return Err(bad(format!("a string of {n} bytes; at most {max} are allowed")).into());
        }
        let bytes = self.take(n)?.to_vec();
        String::from_utf8(bytes).map_err(|_| bad("a string that is not UTF-8".into()).into())
    }
}

/// An array whose elements are arriving.
#[derive(Debug)]
pub(super) struct PartialArray {
    pub values: Array,
    /// Elements to come.
    pub left: u64,
}

pub(super) fn boolean(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// An array's element type and length, which is checked against the bytes that are left.
pub(super) fn array_head(cursor: &mut Cursor<'_>, bad: impl Fn(String) -> GgufError) -> Parsed<PartialArray> {
    let (values, min_bytes) = match cursor.u32()? {
        0 => (Array::U8(Vec::new()), 1),
        1 => (Array::I8(Vec::new()), 1),
        2 => (Array::U16(Vec::new()), 2),
        3 => (Array::I16(Vec::new()), 2),
        4 => (Array::U32(Vec::new()), 4),
        5 => (Array::I32(Vec::new()), 4),
        6 => (Array::F32(Vec::new()), 4),
        7 => (Array::Bool(Vec::new()), 1),
        8 => (Array::Strings(Vec::new()), 8),
        9 => (Array::Arrays(Vec::new()), 12),
        10 => (Array::U64(Vec::new()), 8),
        11 => (Array::I64(Vec::new()), 8),
        12 => (Array::F64(Vec::new()), 8),
        id => return Err(bad(format!("unknown array element type {id}")).into()),
    };
    let left = cursor.u64()?;
    let room = cursor.left().min(MAX_HEADER_BYTES);
    if left > room / min_bytes {
        let problem =
            format!("an array of {left} elements, but only {} bytes of the file are left", cursor.left());
        return Err(bad(problem).into());
    }
    Ok(PartialArray { values, left })
}

/// Reads the complete elements, at most `left` and at least one; returns how many.
pub(super) fn run<T, const N: usize>(
    cursor: &mut Cursor<'_>,
    left: u64,
    out: &mut Vec<T>,
    convert: impl Fn([u8; N]) -> T,
) -> Parsed<u64> {
    let there = ((cursor.bytes.len() - cursor.at) / N) as u64;
    let n = there.clamp(1, left);
    let bytes = cursor.take(n * N as u64)?;
    out.extend(bytes.as_chunks::<N>().0.iter().map(|&chunk| convert(chunk)));
    Ok(n)
}
