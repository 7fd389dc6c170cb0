//! The incremental header reader.
//!
//! A state machine that parses one item at a time: a key with its scalar, a run of array elements, a tensor's
//! entry. It keeps only the bytes of the item that is still incomplete. An item that lacks bytes is parsed
//! again once that many have arrived, not before.

use std::collections::HashSet;

use super::cursor::{Cursor, Parsed, PartialArray, Stop, array_head, boolean, run};
use super::{
    ALIGNMENT_KEY, Array, DEFAULT_ALIGNMENT, GgufError, Header, MAGIC, Metadata, TensorInfo, TensorType,
    Value,
};

/// The largest known headers are about 20 MiB.
pub(super) const MAX_HEADER_BYTES: u64 = 256 << 20;
const MAX_KEY_BYTES: u64 = 64 << 10;
/// ggml itself allows 64.
const MAX_NAME_BYTES: u64 = 255;
const MAX_STRING_BYTES: u64 = 16 << 20;
const MAX_METADATA: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 16;
/// Strings and nested arrays in all metadata: in memory they take several times their size in the file.
const MAX_BOXED_ELEMENTS: u64 = 4 << 20;
const MAX_ARRAY_DEPTH: usize = 3;
const MAX_ALIGNMENT: u64 = 64 << 10;
/// Bytes of a push that are copied and parsed at a time.
const PIECE: usize = 64 << 10;

/// The smallest metadata entry: an empty key, a type and one byte.
const MIN_METADATA_BYTES: u64 = 8 + 4 + 1;
/// The smallest tensor entry: an empty name, one dimension, a type and an offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;
/// Magic, version and the two counts.
const PREAMBLE_BYTES: u64 = 24;

/// Reads a header from consecutive pieces of any size.
#[derive(Debug)]
pub struct HeaderReader {
    file_size: u64,
    /// Bytes received and not parsed yet.
    pending: Vec<u8>,
    /// Bytes of `pending` that the next item is known to need.
    wanted: usize,
    /// Bytes parsed so far.
    consumed: u64,
    state: State,
    version: u32,
    n_tensors: u64,
    alignment: u64,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Metadata keys, later tensor names.
    seen: HashSet<String>,
    /// Arrays that are not complete yet, outermost first.
    arrays: Vec<PartialArray>,
    /// The key of these arrays.
    key: String,
    boxed_elements: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Preamble,
    Metadata { left: u64 },
    Array { entries_left: u64 },
    Tensors { left: u64 },
    Complete { data_offset: u64 },
}

impl HeaderReader {
    /// A reader for a file of `file_size` bytes.
    pub fn new(file_size: u64) -> Self {
        Self {
            file_size,
            pending: Vec::new(),
            wanted: 0,
            consumed: 0,
            state: State::Preamble,
            version: 0,
            n_tensors: 0,
            alignment: DEFAULT_ALIGNMENT,
            metadata: Metadata::new(),
            tensors: Vec::new(),
            seen: HashSet::new(),
            arrays: Vec::new(),
            key: String::new(),
            boxed_elements: 0,
        }
    }

    /// Takes the file's next bytes. Returns 0 when the header is complete and further bytes are ignored;
    /// otherwise the smallest number of bytes that are still needed. After an error the reader cannot be
    /// used.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, GgufError> {
        let mut missing = self.advance()?;
        for piece in bytes.chunks(PIECE) {
            if missing == 0 {
                break;
            }
            self.pending.extend_from_slice(piece);
            missing = self.advance()?;
        }
        Ok(missing)
    }

    /// The header, checked as a whole.
    pub fn finish(self) -> Result<Header, GgufError> {
        let State::Complete { data_offset } = self.state else {
            let needed = self.consumed.saturating_add(self.wanted.max(1) as u64);
            return Err(GgufError::Truncated { needed, file_size: self.file_size });
        };
        Ok(Header {
            version: self.version,
            alignment: self.alignment,
            metadata: self.metadata,
            tensors: self.tensors,
            data_offset,
        })
    }

    /// Parses all complete items; returns how many bytes the next one lacks.
    fn advance(&mut self) -> Result<usize, GgufError> {
        let pending = std::mem::take(&mut self.pending);
        let mut parsed = 0;
        let missing = loop {
            if matches!(self.state, State::Complete { .. }) {
                break 0;
            }
            let bytes = pending.get(parsed..).unwrap_or_default();
            if bytes.len() < self.wanted {
                break self.wanted - bytes.len();
            }
            let mut cursor = Cursor { bytes, at: 0, file_left: self.file_size.saturating_sub(self.consumed) };
            match self.item(&mut cursor) {
                Ok(()) => {
                    parsed += cursor.at;
                    self.consumed += cursor.at as u64;
                    self.wanted = 0;
                }
                Err(Stop::Need(n)) => {
                    let needed = self.consumed.saturating_add(n);
                    if needed > self.file_size {
                        return Err(GgufError::Truncated { needed, file_size: self.file_size });
                    }
                    self.wanted = n as usize; // At most a string, an entry or a run, far less than 4 GiB.
                }
                Err(Stop::Bad(error)) => return Err(error),
            }
            if self.consumed.saturating_add(self.wanted as u64) > MAX_HEADER_BYTES {
                return Err(GgufError::Header(format!("larger than {MAX_HEADER_BYTES} bytes")));
            }
        };
        self.pending = pending;
        self.pending.drain(..parsed);
        Ok(missing)
    }

    /// Parses one item and moves to the next state. On [`Stop::Need`] nothing has changed.
    fn item(&mut self, cursor: &mut Cursor<'_>) -> Parsed<()> {
        match self.state {
            State::Preamble => self.preamble(cursor),
            State::Metadata { left: 0 } => self.metadata_end(),
            State::Metadata { left } => self.entry(cursor, left - 1),
            State::Array { entries_left } => self.elements(cursor, entries_left),
            State::Tensors { left: 0 } => {
                self.state = State::Complete { data_offset: self.place_tensors()? };
                Ok(())
            }
            State::Tensors { left } => self.tensor(cursor, left - 1),
            State::Complete { .. } => Ok(()),
        }
    }

    fn preamble(&mut self, cursor: &mut Cursor<'_>) -> Parsed<()> {
        let magic = cursor.fixed()?;
        if magic != MAGIC {
            let wanted = PREAMBLE_BYTES.min(self.file_size).saturating_sub(magic.len() as u64);
            cursor.take(wanted)?;
            return Err(GgufError::foreign(magic, cursor.bytes).into());
        }
        let version = cursor.u32()?;
        match version {
            2 | 3 => {}
            _ if (1..=3).contains(&version.swap_bytes()) => return Err(GgufError::BigEndian.into()),
            _ => return Err(GgufError::UnsupportedVersion(version).into()),
        }
        let (n_tensors, n_metadata) = (cursor.u64()?, cursor.u64()?);
        let left = self.file_size.saturating_sub(PREAMBLE_BYTES);
        for (what, n, max, min_bytes) in [
            ("metadata entries", n_metadata, MAX_METADATA, MIN_METADATA_BYTES),
            ("tensors", n_tensors, MAX_TENSORS, MIN_TENSOR_BYTES),
        ] {
            if n > left / min_bytes {
                let problem = format!("{n} {what} do not fit into a file of {} bytes", self.file_size);
                return Err(GgufError::Header(problem).into());
            }
            if n > max {
                return Err(GgufError::Header(format!("{n} {what}; at most {max} are allowed")).into());
            }
        }
        self.version = version;
        self.n_tensors = n_tensors;
        self.state = State::Metadata { left: n_metadata };
        Ok(())
    }

    /// A key with its scalar, or with the type and length of its array.
    fn entry(&mut self, cursor: &mut Cursor<'_>, left: u64) -> Parsed<()> {
        let key = cursor
            .string(MAX_KEY_BYTES, |problem| GgufError::Header(format!("the metadata key is {problem}")))?;
        let bad = |problem: String| GgufError::metadata(&key, problem);
        let value = match cursor.u32()? {
            0 => Value::U8(u8::from_le_bytes(cursor.fixed()?)),
            1 => Value::I8(i8::from_le_bytes(cursor.fixed()?)),
            2 => Value::U16(u16::from_le_bytes(cursor.fixed()?)),
            3 => Value::I16(i16::from_le_bytes(cursor.fixed()?)),
            4 => Value::U32(cursor.u32()?),
            5 => Value::I32(i32::from_le_bytes(cursor.fixed()?)),
            6 => Value::F32(f32::from_le_bytes(cursor.fixed()?)),
            7 => {
                let [byte] = cursor.fixed()?;
                Value::Bool(boolean(byte).ok_or_else(|| bad(format!("{byte} is not a boolean")))?)
            }
            8 => Value::String(cursor.string(MAX_STRING_BYTES, bad)?),
            9 => {
                let array = array_head(cursor, bad)?;
                self.check_new(&key)?;
                self.key = key;
                self.begin_array(array)?;
                self.state = State::Array { entries_left: left };
                return Ok(());
            }
            10 => Value::U64(cursor.u64()?),
            11 => Value::I64(i64::from_le_bytes(cursor.fixed()?)),
            12 => Value::F64(f64::from_le_bytes(cursor.fixed()?)),
            id => return Err(bad(format!("unknown value type {id}")).into()),
        };
        self.check_new(&key)?;
        self.metadata.push(key, value);
        self.state = State::Metadata { left };
        Ok(())
    }

    fn check_new(&mut self, key: &str) -> Result<(), GgufError> {
        if !self.seen.insert(key.to_owned()) {
            return Err(GgufError::metadata(key, "the key appears twice"));
        }
        Ok(())
    }

    fn begin_array(&mut self, array: PartialArray) -> Result<(), GgufError> {
        if self.arrays.len() == MAX_ARRAY_DEPTH {
            let problem = format!("arrays are nested more than {MAX_ARRAY_DEPTH} deep");
            return Err(GgufError::metadata(&self.key, problem));
        }
        if matches!(array.values, Array::Strings(_) | Array::Arrays(_)) {
            self.boxed_elements = self.boxed_elements.saturating_add(array.left);
            if self.boxed_elements > MAX_BOXED_ELEMENTS {
                let problem = format!("all arrays together hold more than {MAX_BOXED_ELEMENTS} strings");
                return Err(GgufError::metadata(&self.key, problem));
            }
        }
        self.arrays.push(array);
        Ok(())
    }

    /// The complete elements of the innermost open array, at least one; or the end of that array.
    fn elements(&mut self, cursor: &mut Cursor<'_>, entries_left: u64) -> Parsed<()> {
        let key = &self.key;
        let bad = |problem: String| GgufError::metadata(key, problem);
        let Some(array) = self.arrays.last_mut() else {
            self.state = State::Metadata { left: entries_left };
            return Ok(());
        };
        if array.left == 0 {
            let Some(PartialArray { values, .. }) = self.arrays.pop() else { return Ok(()) };
            match self.arrays.last_mut() {
                Some(PartialArray { values: Array::Arrays(outer), .. }) => outer.push(values),
                _ => {
                    self.metadata.push(std::mem::take(&mut self.key), Value::Array(values));
                    self.state = State::Metadata { left: entries_left };
                }
            }
            return Ok(());
        }
        array.left -= match &mut array.values {
            Array::U8(v) => run(cursor, array.left, v, u8::from_le_bytes)?,
            Array::I8(v) => run(cursor, array.left, v, i8::from_le_bytes)?,
            Array::U16(v) => run(cursor, array.left, v, u16::from_le_bytes)?,
            Array::I16(v) => run(cursor, array.left, v, i16::from_le_bytes)?,
            Array::U32(v) => run(cursor, array.left, v, u32::from_le_bytes)?,
            Array::I32(v) => run(cursor, array.left, v, i32::from_le_bytes)?,
            Array::U64(v) => run(cursor, array.left, v, u64::from_le_bytes)?,
            Array::I64(v) => run(cursor, array.left, v, i64::from_le_bytes)?,
            Array::F32(v) => run(cursor, array.left, v, f32::from_le_bytes)?,
            Array::F64(v) => run(cursor, array.left, v, f64::from_le_bytes)?,
            Array::Bool(v) => {
                let [byte] = cursor.fixed()?;
                v.push(boolean(byte).ok_or_else(|| bad(format!("{byte} is not a boolean")))?);
                1
            }
            Array::Strings(v) => {
                v.push(cursor.string(MAX_STRING_BYTES, bad)?);
                1
            }
            Array::Arrays(_) => {
                let inner = array_head(cursor, bad)?;
                array.left -= 1;
                return Ok(self.begin_array(inner)?);
            }
        };
        Ok(())
    }

    fn metadata_end(&mut self) -> Parsed<()> {
        if let Some(alignment) = self.metadata.u64(ALIGNMENT_KEY)? {
            if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
                let problem = format!("the alignment is not a power of two up to {MAX_ALIGNMENT}");
                return Err(GgufError::metadata(ALIGNMENT_KEY, problem).into());
            }
            self.alignment = alignment;
        }
        self.seen.clear();
        self.state = State::Tensors { left: self.n_tensors };
        Ok(())
    }

    fn tensor(&mut self, cursor: &mut Cursor<'_>, left: u64) -> Parsed<()> {
        let name = cursor
            .string(MAX_NAME_BYTES, |problem| GgufError::Header(format!("the tensor name is {problem}")))?;
        let bad = |problem: String| Stop::Bad(GgufError::tensor(&name, problem));
        let n_dims = cursor.u32()?;
        if !(1..=4).contains(&n_dims) {
            return Err(bad(format!("it has {n_dims} dimensions; only 1 to 4 are supported")));
        }
        let mut shape = (0..n_dims).map(|_| cursor.u64()).collect::<Parsed<Vec<u64>>>()?;
        shape.reverse();
        let ty = TensorType::from_id(cursor.u32()?);
        let n_bytes = ty.tensor_bytes(&shape).map_err(bad)?;
        let offset = cursor.u64()?;
        if offset % self.alignment != 0 {
            return Err(bad(format!("its offset {offset} is not a multiple of {}", self.alignment)));
        }
        if !self.seen.insert(name.clone()) {
            return Err(bad("the name appears twice".into()));
        }
        self.tensors.push(TensorInfo { name, shape, ty, offset, n_bytes });
        self.state = State::Tensors { left };
        Ok(())
    }

    /// Turns offsets in the data into offsets in the file, and checks that tensors lie inside the file and do
    /// not overlap. Returns where the data begins.
    fn place_tensors(&mut self) -> Result<u64, GgufError> {
        let data_offset = self.consumed.next_multiple_of(self.alignment);
        for tensor in &mut self.tensors {
            let offset = data_offset.checked_add(tensor.offset);
            let end = offset.and_then(|offset| offset.checked_add(tensor.n_bytes));
            let (Some(offset), Some(end)) = (offset, end.filter(|&end| end <= self.file_size)) else {
                let problem = format!(
                    "its {} bytes at offset {} end after the file's {} bytes; the file is incomplete \
                     or damaged, download it again",
                    tensor.n_bytes, tensor.offset, self.file_size
                );
                return Err(GgufError::tensor(&tensor.name, problem));
            };
            debug_assert!(offset <= end);
            tensor.offset = offset;
        }
        let mut by_offset: Vec<&TensorInfo> = self.tensors.iter().filter(|t| t.n_bytes > 0).collect();
        by_offset.sort_unstable_by_key(|t| t.offset);
        for pair in by_offset.windows(2) {
            if let [a, b] = pair
                && a.offset + a.n_bytes > b.offset
            {
                return Err(GgufError::tensor(&b.name, format!("its data overlaps with {:?}", a.name)));
            }
        }
        self.seen = HashSet::new();
        Ok(data_offset)
    }
}
